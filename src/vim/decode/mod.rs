//! placeholder, replaced by the decoder
use super::{DecodeError, Decoded};
pub fn decode(_page: &[u8], _out: &mut Decoded) -> Result<(), DecodeError> {
    Ok(())
}
pub fn decode_vijson(_page: &[u8], _out: &mut Decoded) -> Result<(), DecodeError> {
    Ok(())
}
