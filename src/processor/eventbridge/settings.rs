//! The settings of AWS EventBridge.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::EventBridge;
use crate::cloudevents::Envelope;
use crate::config::declare::*;
use crate::config::found::distinct_names;
use crate::config::{Secret, SecretError};
use crate::net::settings::{ClientTls, HttpClient};
use crate::processor::Processor;
use crate::processor::settings::{KindSettings, MakeError};

settings! {
    /// Sends an event to an AWS EventBridge bus if a rule of the bus matches it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct EventBridgeConfig in "eventbridge" {
        /// AWS region.
        pub region: String = key("region", TEXT).required();
        /// Credentials. Default: AWS's own chain of environment, profile, web identity, container
        /// and instance roles.
        pub auth: AwsAuth = key("auth", maybe::<AwsAuthKeys>());
        /// Role to assume with these credentials.
        pub assume_role: Option<AssumeRole> = key("assumeRole", maybe::<AssumeRole>());
        /// Endpoint to use instead of AWS's own.
        pub endpoint: Option<String> = key("endpoint", HTTP_URL);
        /// Event buses. Default: the bus `default` with all its rules.
        pub buses: Vec<EventBus> = key("buses", blocks::<EventBus>()).also(&["eventBus"]);
        /// Time between two readings of the rules.
        pub refresh_interval: Duration = key("refreshInterval", duration(SECOND, DAY)).or("5m");
        /// The largest size of a request and of each entry in it, as AWS computes it. A larger
        /// event becomes a dead letter.
        pub entry_bytes_max: usize = key("entryBytesMax", size(KIB, 16 * MIB)).or("256KiB");
        pub http: HttpClient, changed [key("tls", block::<AwsTls>()).doc("Certificates to accept.")];
    }
    check |found, problems| distinct_names(&found.blocks("buses"), "bus", problems);
}

impl EventBridgeConfig {
    /// A region's `default` bus with every other setting at its default.
    pub fn new(region: impl Into<String>) -> Self {
        EventBridgeConfig { region: region.into(), ..defaults() }
    }
}

impl KindSettings for EventBridgeConfig {
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(EventBridge::new(self, envelope)?))
    }

    /// The first rule or bus, as the old router showed it.
    fn shown(&self) -> String {
        let bus = &self.buses[0];
        bus.rules.first().unwrap_or(&bus.name).clone()
    }

    fn selects(&self) -> bool {
        true
    }
}

settings! {
    /// Certificates in the TLS handshake with AWS.
    #[derive(Debug)]
    pub(crate) struct AwsTls in "eventbridge.tls" {
        // The connection to AWS needs no other TLS setting.
        ca_files: Vec<PathBuf> = ClientTls::BLOCK.field("caFile");
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AwsAuth {
    /// AWS's default chain: environment, profile, web identity, container and instance roles.
    #[default]
    DefaultChain,
    AccessKey {
        access_key_id: String,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
    /// A profile of the AWS configuration files.
    Profile(String),
}

settings! {
    /// An access key, or a profile from AWS's own configuration files.
    #[derive(Debug)]
    pub(crate) struct AwsAuthKeys in "eventbridge.auth" {
        /// Id of the access key.
        access_key_id: Option<String> =
            key("accessKeyId", TEXT).also(&["accessKey", "aws_access_key_id"]);
        secret_access_key: Option<Secret> =
            key("secretAccessKey", SECRET)
                .also(&["secretKey", "aws_secret_access_key"])
                .doc("Secret access key."),
            key("secretAccessKeyFile", SECRET_FILE).doc("File with the secret access key.");
        session_token: Option<Secret> =
            key("sessionToken", SECRET).doc("Session token of temporary credentials."),
            key("sessionTokenFile", SECRET_FILE).doc("File with the session token.");
        /// Name of the profile.
        profile: Option<String> = key("profile", TEXT);
    }
    rules [
        FieldRule::ExactlyOne(&["accessKeyId", "profile"]),
        FieldRule::AtMostOne(&["secretAccessKey", "secretAccessKeyFile"]),
        FieldRule::AtMostOne(&["sessionToken", "sessionTokenFile"]),
        FieldRule::Needs("accessKeyId", &["secretAccessKey", "secretAccessKeyFile"]),
        FieldRule::Needs("secretAccessKey", &["accessKeyId"]),
        FieldRule::Needs("secretAccessKeyFile", &["accessKeyId"]),
        FieldRule::Needs("sessionToken", &["accessKeyId"]),
        FieldRule::Needs("sessionTokenFile", &["accessKeyId"]),
    ];
}

impl Setting for AwsAuth {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        match Option::<AwsAuthKeys>::read(found, fields) {
            None => AwsAuth::DefaultChain,
            Some(AwsAuthKeys { profile: Some(profile), .. }) => AwsAuth::Profile(profile),
            Some(AwsAuthKeys { access_key_id, secret_access_key, session_token, .. }) => AwsAuth::AccessKey {
                access_key_id: access_key_id.unwrap_or_default(),
                secret_access_key: secret_access_key.unwrap_or_else(|| Secret::inline("")),
                session_token,
            },
        }
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        let none = || AwsAuthKeys {
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            profile: None,
        };
        let keys = match self.clone() {
            AwsAuth::DefaultChain => None,
            AwsAuth::Profile(profile) => Some(AwsAuthKeys { profile: Some(profile), ..none() }),
            AwsAuth::AccessKey { access_key_id, secret_access_key, session_token } => Some(AwsAuthKeys {
                access_key_id: Some(access_key_id),
                secret_access_key: Some(secret_access_key),
                session_token,
                profile: None,
            }),
        };
        keys.write(fields, out)
    }
}

settings! {
    /// STS AssumeRole.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AssumeRole in "eventbridge.assumeRole" {
        /// ARN of the role.
        pub role_arn: String = key("roleArn", TEXT).required().also(&["arn", "role"]);
        /// External id, if the role's trust policy requires one.
        pub external_id: Option<String> = key("externalId", TEXT);
        /// Name of the session in AWS's logs.
        pub session_name: String = key("sessionName", TEXT).or("event-router");
    }
}

settings! {
    /// An event bus.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EventBus in "eventbridge.buses" {
        /// Name or ARN.
        pub name: String = key("name", TEXT).required();
        /// Names or ARNs of the rules whose patterns select the events. Default: all rules of the
        /// bus.
        pub rules: Vec<String> = key("rules", FieldType::List(&TEXT)).also(&["ruleARN", "rule"]);
        /// Sends every event, and reads no rules.
        pub forward_all: bool = key("forwardAll", FLAG).or("false");
    }
    check check_bus;
    unless given vec![EventBus { name: "default".into(), rules: Vec::new(), forward_all: false }];
}

fn check_bus(found: &CheckedMap, problems: &mut Problems) {
    if found.flag("forwardAll") && found.is_given("rules") {
        let message = "`forwardAll` and `rules` exclude each other; keep one";
        problems.error(found.line_of("rules"), &found.path, message);
    }
}
