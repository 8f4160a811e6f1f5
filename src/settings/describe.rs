//! The JSON schema and the manual of the native format. Both are checked in, and a test keeps them
//! equal to the declarations.

use super::Config;
use crate::config::{Group, describe};

/// The JSON schema of the native format.
pub fn json_schema() -> serde_json::Value {
    describe::schema(Config::BLOCK, "vCenter Event Router configuration")
}

/// The text of `docs/config.schema.json`.
pub fn json_schema_text() -> String {
    format!("{:#}\n", json_schema())
}

/// The text of `docs/configuration.md`.
pub fn reference_manual() -> String {
    describe::manual(Config::BLOCK, INTRODUCTION)
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by a test from the declarations of the settings: `UPDATE_DOCS=1 cargo test --test it docs::` rewrites it. -->

The configuration is a single YAML file. `event-router check --config F` reports all errors in it with their lines. `event-router schema`
prints a JSON schema for editors ([config.schema.json](config.schema.json)). Ready-made files are in [examples](../examples).

```yaml
apiVersion: event-router/v1
sources:
  - name: vc1
    type: vcenter
    address: https://vc1.example/sdk
    username: ro@vsphere.local
    passwordFile: /etc/event-router/vc1-password
processors:
  - name: functions
    type: openfaas
    gateway: http://gateway.openfaas:8080
```

- **Durations** are written as `250ms`, `10s`, `5m`, `1h30m`, `1d`, and **sizes** as `4096B`, `64KiB`, `10MiB`, `1GiB` (or `kB`, `MB`, `GB`
  for powers of 1,000).
- **Variables**: `${NAME}` in any value is replaced by that environment variable; it is an error if the variable is not set. Only `${` is
  special: `$${` stands for the text `${`, and any other `$` for itself. The value of a variable is never parsed as YAML.
- **Secrets** can be written in the file, come from a variable, or be in a file of their own (`passwordFile` for `password`). Such a file is
  read again at each use, so a rotated password needs no restart; one line break at its end is ignored. Put a password with special
  characters in single quotes, and double each `'` in it. A secret of fewer than four characters cannot be redacted where a server
  repeats it; `event-router check` warns of it.
- **Secret URLs**: the URL of a webhook may be its only credential. Put it into a file (`urlFile`), or a part of it into a variable
  (`url: https://hooks.example/${TOKEN}`); then logs, pages and dead letters show its scheme, its host and a short hash. Of any other URL
  they hide query values and segments of the path that look random.
- **File names** are relative to the working directory.
- **YAML anchors** (`&x`, `*x`, `<<: *x`) avoid repetition; see [many.yaml](../examples/many.yaml).
- **Unknown keys** are errors.
- **No default** is shown as –; the description says what happens without the key.

The router also reads the two formats of the old router, and detects them by their content: the JSON array of v0.3 and v0.4, and the YAML
`event-router.vmware.com/v1alpha1` of v0.5 and later. `event-router config convert` converts them into this format.
";
