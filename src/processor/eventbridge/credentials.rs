//! AWS credentials: an access key, a profile or AWS's default chain, and an optional role to
//! assume.

use std::time::SystemTime;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, future};
use aws_sdk_eventbridge::config::retry::RetryConfig;
use aws_sdk_eventbridge::config::timeout::TimeoutConfig;
use aws_sdk_eventbridge::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};

use super::transport::SdkTransport;
use crate::config::Secret;
use crate::limits::ACCESS_KEY_AGE_MAX;
use crate::processor::eventbridge::settings::{AwsAuth, EventBridgeConfig as Settings};
use crate::redact::Former;

/// A provider that remembers the secrets it hands out.
#[derive(Debug)]
struct Remembered {
    from: SharedCredentialsProvider,
    /// The secrets that requests were signed with.
    secrets: Former,
}

impl ProvideCredentials for Remembered {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.from.provide_credentials().await?;
            let secrets = [Some(credentials.secret_access_key()), credentials.session_token()];
            self.secrets.keep_all(secrets.into_iter().flatten());
            Ok(credentials)
        })
    }
}

/// The SDK's configuration with credentials. The SDK asks for credentials when it needs them, and
/// again before they expire.
pub async fn sdk_config(settings: &Settings, transport: &SdkTransport) -> SdkConfig {
    let remembered = |from| SharedCredentialsProvider::new(Remembered { from, secrets: Former::default() });
    let region = Region::new(settings.region.clone());
    let provider_config =
        ProviderConfig::default().with_region(Some(region.clone())).with_http_client(transport.shared());
    // Choose the base credentials.
    let base = match &settings.auth {
        AwsAuth::AccessKey { access_key_id, secret_access_key, session_token } => {
            SharedCredentialsProvider::new(AccessKey {
                id: access_key_id.clone(),
                secret: secret_access_key.clone(),
                token: session_token.clone(),
            })
        }
        AwsAuth::Profile(name) => {
            let provider =
                ProfileFileCredentialsProvider::builder().configure(&provider_config).profile_name(name);
            SharedCredentialsProvider::new(provider.build())
        }
        AwsAuth::DefaultChain => {
            let chain = DefaultCredentialsChain::builder().configure(provider_config).region(region.clone());
            SharedCredentialsProvider::new(chain.build().await)
        }
    };
    let base = remembered(base);
    let config = |credentials: SharedCredentialsProvider| {
        aws_config::defaults(BehaviorVersion::latest())
            .region(region.clone())
            .http_client(transport.shared())
            .credentials_provider(credentials)
            // The pipeline retries, and the transport enforces `timeout`.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
    };
    let sdk = config(base.clone()).load().await;
    let Some(role) = &settings.assume_role else { return sdk };
    // Assume the role with the base credentials.
    let mut assumed = AssumeRoleProvider::builder(&role.role_arn)
        .session_name(&role.session_name)
        .region(region.clone())
        .configure(&sdk);
    if let Some(external_id) = &role.external_id {
        assumed = assumed.external_id(external_id);
    }
    let assumed = SharedCredentialsProvider::new(assumed.build_from_provider(base).await);
    config(remembered(assumed)).load().await
}

/// An access key whose secret may be in a file that is rotated.
#[derive(Debug)]
struct AccessKey {
    id: String,
    secret: Secret,
    token: Option<Secret>,
}

impl AccessKey {
    fn read(&self) -> provider::Result {
        let read = |secret: &Secret| secret.read().map_err(CredentialsError::provider_error);
        let token = self.token.as_ref().map(read).transpose()?.map(|token| token.to_string());
        let rotates = self.secret.path().or(self.token.as_ref().and_then(Secret::path)).is_some();
        // With an expiry, the SDK asks again and so notices a rotated file.
        let until = rotates.then(|| SystemTime::now() + ACCESS_KEY_AGE_MAX);
        Ok(Credentials::new(self.id.clone(), read(&self.secret)?.to_string(), token, until, "event-router"))
    }
}

impl ProvideCredentials for AccessKey {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_secret_key_in_a_file_is_read_again_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "one\n").unwrap();
        let key = AccessKey { id: "AK".into(), secret: Secret::file(&path), token: None };
        assert_eq!(key.read().unwrap().secret_access_key(), "one");
        assert!(key.read().unwrap().expiry().is_some());
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(key.read().unwrap().secret_access_key(), "two");
        std::fs::remove_file(&path).unwrap();
        assert!(
            key.read().unwrap_err().source().unwrap().to_string().contains("cannot read the secret file")
        );

        let inline = AccessKey {
            id: "AK".into(),
            secret: Secret::inline("s3cr3t"),
            token: Some(Secret::inline("t0k3n")),
        };
        let read = inline.read().unwrap();
        assert_eq!((read.session_token(), read.expiry()), (Some("t0k3n"), None));
        assert!(!format!("{inline:?} {read:?}").contains("s3cr3t"));
    }
}
