//! The webhook provider of the old router.

use super::*;
use crate::state::settings::default_data_dir;

const OLD_WEBHOOK_PATH: &str = "webhook";

impl V1alpha1Builder<'_> {
    /// The old router kept nothing on disk and answered when the processor had taken an event. Here
    /// an event is durable before the answer, so the state needs a directory.
    pub(super) fn webhook(&mut self, name: String, provider: &CheckedMap) -> (SourceConfig, StateLocation) {
        let Some(block) = self.typed(provider, "webhook", &WEBHOOK) else {
            return (
                SourceConfig { name, kind: SourceKind::Webhook(Webhook::new("")) },
                StateLocation::Ephemeral,
            );
        };
        let auth = self.maybe_basic_auth(&block, false);
        let text = old::text(&block, "bindAddress", self.problems);
        let address = if text.is_empty() { Some(String::new()) } else { scalar::bind_address(text) };
        if address.is_none() {
            self.problems.error(
                block.line_of("bindAddress"),
                &block.path_of("bindAddress"),
                "must be `IP:PORT`",
            );
        }
        let path = self.webhook_path(&block);
        let webhook = Webhook { path, auth, ..Webhook::new(address.unwrap_or_default()) };
        let state = StateLocation::Dir(default_data_dir(self.env));
        (SourceConfig { name, kind: SourceKind::Webhook(webhook) }, state)
    }

    /// The path by the old rules: in lower case, with a slash before it, and not `/` alone.
    fn webhook_path(&mut self, block: &CheckedMap) -> String {
        let given = block.maybe_text("path").filter(|path| !path.is_empty()).unwrap_or(OLD_WEBHOOK_PATH);
        let path = format!("/{}", given.trim_start_matches('/').to_lowercase());
        let fits =
            path.len() > 1 && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        if !fits {
            let message = "must be a path such as `webhook`, and not `/`";
            self.problems.error(block.line_of("path"), &block.path_of("path"), message);
        }
        path
    }
}
