//! (codec)
use crate::event::Identity;
#[derive(Clone, Debug)]
pub struct Encoded {
    blob: Vec<u8>,
    identities: Vec<Identity>,
}
impl Encoded {
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}
