//! Decimal digits without the machinery of `write!`: an event has a dozen numbers, and a page
//! thousands of events.

/// Fills `at` with the last digits of `value`, with leading zeros.
pub(crate) fn write_digits(at: &mut [u8], mut value: u32) {
    for digit in at.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Appends a decimal number. `write!` would cost five times as much, twice for each event.
pub(crate) fn push_int(out: &mut Vec<u8>, value: i32) {
    let mut buffer = [0u8; 11];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    out.extend_from_slice(&buffer[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 1, -1, 42, i32::MAX, i32::MIN, 1_000_000] {
            let mut out = Vec::new();
            push_int(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
