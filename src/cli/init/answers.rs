//! The answers that a configuration is made of: from flags, from questions, and from a handshake
//! with the vCenter.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::ValueEnum;

use super::questions::Questions;
use super::{InitArgs, InitUsageError, TargetKind};
use crate::config::{Secret, scalar};
use crate::net::settings::ClientTls;
use crate::net::{self, ConnectError, HandshakeError, handshake, pem, target_uri};

/// Name of the source in the configuration.
pub(super) const SOURCE: &str = "vc1";

/// Everything that the configuration says.
pub(super) struct Answers {
    /// The SDK URL.
    pub vcenter: String,
    pub user: String,
    pub password: SecretPlace,
    pub trust: InitTrust,
    pub target: InitTarget,
    /// Secrets to write into files of their own.
    pub new_secrets: Vec<(PathBuf, Secret)>,
}

/// The place of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretPlace {
    File(PathBuf),
    Variable(String),
}

/// The certificates of the vCenter to accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InitTrust {
    System,
    CaFile(PathBuf),
    Thumbprint(String),
    Insecure,
}

/// The target of the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InitTarget {
    CloudEvents { url: String },
    Http { url: String },
    OpenFaas { gateway: String, auth: Option<(String, PathBuf)> },
    EventBridge { region: String, bus: String },
    File { path: PathBuf },
    Console,
}

impl Answers {
    pub fn gather(args: &InitArgs, questions: &mut Questions) -> anyhow::Result<Self> {
        let mut new_secrets = Vec::new();
        let vcenter = args.vcenter.as_deref();
        let vcenter = questions.value("vcenter", vcenter, "Host or SDK URL of the vCenter", None, sdk_url)?;
        // Before the password, which only a trusted vCenter gets.
        let trust = trust(args, questions, &vcenter)?;
        let user = args.user.as_deref();
        let user = questions.value("user", user, "User, read-only is sufficient", None, not_empty)?;
        let password = match (&args.password_env, &args.password_file) {
            (Some(variable), _) => SecretPlace::Variable(checked("password-env", variable, variable_name)?),
            (None, Some(file)) => SecretPlace::File(existing_secret("password-file", file)?),
            (None, None) => {
                let flags = "password-file` or `--password-env";
                let secret = questions.secret(flags, &format!("Password of {user}"))?;
                SecretPlace::File(keep(args, SOURCE, secret, &mut new_secrets)?)
            }
        };
        let target = target(args, questions, &mut new_secrets)?;
        Ok(Answers { vcenter, user, password, trust, target, new_secrets })
    }

    /// The secrets in files, each with the name that it gets as a credential of systemd.
    pub fn secret_files(&self) -> Vec<(&'static str, &Path)> {
        let mut files = Vec::new();
        if let SecretPlace::File(path) = &self.password {
            files.push((SOURCE, path.as_path()));
        }
        if let InitTarget::OpenFaas { auth: Some((_, path)), .. } = &self.target {
            files.push(("openfaas", path.as_path()));
        }
        files
    }
}

fn target(
    args: &InitArgs,
    questions: &mut Questions,
    new_secrets: &mut Vec<(PathBuf, Secret)>,
) -> anyhow::Result<InitTarget> {
    let kinds = TargetKind::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = kinds.map(|kind| kind.get_name().to_owned()).collect();
    let kind = match args.target {
        Some(kind) => kind,
        None => {
            let question = format!("Kind of the target ({})", names.join(", "));
            let word = questions.value("target", None, &question, None, target_kind)?;
            TargetKind::from_str(&word, false).map_err(|error| anyhow!(error))?
        }
    };
    let mut url = |question: &str| questions.value("url", args.url.as_deref(), question, None, http_url);
    Ok(match kind {
        TargetKind::Cloudevents => InitTarget::CloudEvents { url: url("URL of the target")? },
        TargetKind::Http => InitTarget::Http { url: url("URL of the API")? },
        TargetKind::Openfaas => {
            let gateway = url("URL of the gateway")?;
            InitTarget::OpenFaas { gateway, auth: gateway_auth(args, questions, new_secrets)? }
        }
        TargetKind::Eventbridge => {
            let region = args.region.as_deref();
            let region = questions.value("region", region, "AWS region", None, not_empty)?;
            let bus = args.bus.as_deref();
            let bus = questions.value("bus", bus, "Name or ARN of the bus", Some("default"), not_empty)?;
            InitTarget::EventBridge { region, bus }
        }
        TargetKind::File => {
            let path = args.path.as_deref().map(Path::to_string_lossy);
            let path = questions.value("path", path.as_deref(), "File for the events", None, not_empty)?;
            InitTarget::File { path: std::path::absolute(path)? }
        }
        TargetKind::Console => InitTarget::Console,
    })
}

/// The credentials of a gateway; none for an empty user.
fn gateway_auth(
    args: &InitArgs,
    questions: &mut Questions,
    new_secrets: &mut Vec<(PathBuf, Secret)>,
) -> anyhow::Result<Option<(String, PathBuf)>> {
    let given = args.gateway_user.as_deref();
    let default = if args.gateway_password_file.is_some() { "admin" } else { "" };
    let question = "User of the gateway, empty for none";
    let user = questions.value("gateway-user", given, question, Some(default), |text| Ok(text.into()))?;
    if user.is_empty() {
        return Ok(None);
    }
    let file = match &args.gateway_password_file {
        Some(file) => existing_secret("gateway-password-file", file)?,
        None => {
            let secret = questions.secret("gateway-password-file", &format!("Password of {user}"))?;
            keep(args, "openfaas", secret, new_secrets)?
        }
    };
    Ok(Some((user, file)))
}

/// Decides which certificates of the vCenter to accept. Without a flag it looks at the certificate.
fn trust(args: &InitArgs, questions: &mut Questions, vcenter: &str) -> anyhow::Result<InitTrust> {
    if let Some(thumbprint) = &args.thumbprint {
        return Ok(InitTrust::Thumbprint(checked("thumbprint", thumbprint, thumbprint_of)?));
    }
    if let Some(file) = &args.ca_file {
        pem::certificates(file).map_err(|error| InitUsageError(format!("`--ca-file`: {error}")))?;
        return Ok(InitTrust::CaFile(std::path::absolute(file)?));
    }
    if args.insecure {
        return Ok(InitTrust::Insecure);
    }
    if args.no_connect || !vcenter.starts_with("https://") {
        return Ok(InitTrust::System);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    let address = target_uri(vcenter)?;
    let error = match runtime.block_on(handshake(&address, &ClientTls::default())) {
        Ok(()) => return Ok(InitTrust::System),
        Err(error) => error,
    };
    let thumbprint = match &error {
        HandshakeError::Connect(ConnectError::Tls { error, .. }) => net::refused_thumbprint(error),
        HandshakeError::Connect(_) | HandshakeError::Setup(_) => None,
    };
    let Some(thumbprint) = thumbprint else {
        return Err(anyhow!("{error}; correct `--vcenter`, or add `--no-connect`"));
    };
    super::super::complain(&error.to_string());
    let question = "Compare the thumbprint with the vCenter's own. Accept this certificate, and only this?";
    match questions.agreed(question)? {
        Some(true) => Ok(InitTrust::Thumbprint(thumbprint)),
        Some(false) => Err(InitUsageError(
            "the certificate is not accepted; name its CA with `--ca-file`".to_owned(),
        )
        .into()),
        None => Err(InitUsageError(format!(
            "the vCenter's certificate is not trusted; compare its thumbprint, then add `--thumbprint {thumbprint}` or `--ca-file FILE`"
        ))
        .into()),
    }
}

/// Notes a secret for a file of its own beside the configuration, and returns the file's path.
fn keep(
    args: &InitArgs,
    name: &str,
    secret: String,
    new_secrets: &mut Vec<(PathBuf, Secret)>,
) -> anyhow::Result<PathBuf> {
    let path = own_file(args, name)?;
    // From here on it is redacted wherever it appears.
    new_secrets.push((path.clone(), Secret::inline(secret)));
    Ok(path)
}

/// The file beside the configuration for the password of `name`.
pub(super) fn own_file(args: &InitArgs, name: &str) -> std::io::Result<PathBuf> {
    Ok(std::path::absolute(&args.output)?.with_file_name(format!("{name}-password")))
}

/// The path of a secret file that can be read.
fn existing_secret(flag: &str, file: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(file)?;
    Secret::file(&path).read().map_err(|error| InitUsageError(format!("`--{flag}`: {error}")))?;
    Ok(path)
}

fn checked(flag: &str, text: &str, check: super::questions::Check) -> anyhow::Result<String> {
    check(text).map_err(|reason| InitUsageError(format!("`--{flag}` {reason}")).into())
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".into()) } else { Ok(text.trim().into()) }
}

fn sdk_url(text: &str) -> Result<String, String> {
    match scalar::sdk_url(text.trim()) {
        Ok(sdk) if sdk.credentials_dropped => Err("must not carry credentials".into()),
        Ok(sdk) => Ok(sdk.url),
        Err(reason) => Err(reason.into()),
    }
}

fn http_url(text: &str) -> Result<String, String> {
    scalar::http_url(text.trim()).map_err(Into::into)
}

fn thumbprint_of(text: &str) -> Result<String, String> {
    let bytes = scalar::thumbprint(text).ok_or("must be a SHA-256 of 64 hex digits")?;
    Ok(bytes.map(|byte| format!("{byte:02X}")).join(":"))
}

fn variable_name(text: &str) -> Result<String, String> {
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name { Ok(text.into()) } else { Err("must be the name of an environment variable".into()) }
}

fn target_kind(text: &str) -> Result<String, String> {
    let word = text.trim().to_ascii_lowercase();
    match TargetKind::from_str(&word, false) {
        Ok(_) => Ok(word),
        Err(_) => Err("must be one of the kinds in parentheses".into()),
    }
}
