//! Writes a [`Config`] as a file of the native format. Loading that file gives the same
//! configuration.

use super::{Config, RouteConfig};
use crate::config::yaml::{self, Fields, Notes};
use crate::config::{Group, SecretError};

/// Writes the file, with `dataDir` only if `with_state` is true. Secrets in files stay there;
/// others are written out.
///
/// # Errors
/// A header or proxy secret is in a file that cannot be read. Only configurations that were built
/// in code can have such a secret.
pub(super) fn write(config: &Config, with_state: bool, notes: &Notes) -> Result<String, SecretError> {
    let mut fields = Fields::new();
    config.write(&mut fields)?;
    let all = RouteConfig::all(&config.sources, &config.processors);
    let is_default = matches!(&config.routes[..], [one] if *one == all);
    fields.retain(|(key, _)| match *key {
        "dataDir" => with_state,
        "routes" => !is_default,
        _ => true,
    });
    Ok(yaml::write(&fields, Config::BLOCK, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_configuration_is_read_as_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["vc1.example".into()]).unwrap();
        let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert_file, key.cert.pem()).unwrap();
        std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
        let text = include_str!("../../tests/data/everything.yaml")
            .replace("CERT.pem", &cert_file.display().to_string())
            .replace("KEY.pem", &key_file.display().to_string())
            .replace("PEM TEXT", &key.cert.pem().replace('\n', "\\n"))
            .replace("hunter2", "'$${p}''\"#: %'");
        let load = |text: &str| {
            let (mut config, _) = super::super::load_str(text, "written".as_ref())
                .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            config.routes.iter_mut().for_each(|route| route.line = 0);
            config
        };
        let config = load(&text.replace("user:'$${p}''\"#: %'@", "user:p%40@"));
        let written = write(&config, true, &Vec::new()).unwrap();
        assert_eq!(load(&written), config, "{written}");
    }
}
