//! The parameter `cursor`: the position of the last row of a page, in base64url. Only cursors that this service wrote are valid.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::status::Refusal;

use crate::{
    rpc::parameters::invalid_value,
    store::log_reader::{EventPosition, PairPosition},
};

/// The length of a UUID in text.
const UUID_LENGTH: usize = 36;

/// A position in a list with cursors.
pub trait Position: Sized + PartialEq {
    /// Writes the position as text.
    fn write(&self) -> String;

    /// Reads a position from text.
    fn read(text: &str) -> Option<Self>;
}

/// Returns the cursor of a position.
pub fn write(position: &impl Position) -> String {
    URL_SAFE_NO_PAD.encode(position.write())
}

/// Returns the position of a cursor.
///
/// # Errors
/// A refusal with `PARAMETER_INVALID` for anything but the cursor of a position in this list.
pub fn read<P: Position>(cursor: &str) -> Result<P, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let position = bytes.and_then(|bytes| P::read(std::str::from_utf8(&bytes).ok()?));
    // A position has exactly one cursor; other spellings of it are refused.
    position.filter(|position| write(position) == cursor).ok_or_else(|| invalid_value("cursor"))
}

impl Position for PairPosition {
    fn write(&self) -> String {
        format!("pair {} {}", self.at, self.other)
    }

    fn read(text: &str) -> Option<Self> {
        let (at, other) = text.strip_prefix("pair ")?.split_once(' ')?;
        Some(Self { at: at.parse().ok()?, other: other.parse().ok()? })
    }
}

impl Position for EventPosition {
    fn write(&self) -> String {
        format!("event {} {} {}", self.at, self.target, self.id)
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.strip_prefix("event ")?.splitn(3, ' ');
        let at = words.next()?;
        let target = words.next()?;
        let id = words.next()?;
        let is_id = id.len() <= UUID_LENGTH && id.bytes().all(|byte| byte.is_ascii_graphic());
        is_id.then_some(Self { at: at.parse().ok()?, target: target.parse().ok()?, id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::paddock::contract::v1::Reason;

    use super::*;

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[test]
    fn invalid_cursors_are_refused() {
        let pair = encode("pair 5 7");
        let id = "0197b1e2-0000-7000-8000-000000000001";
        let event = encode(&format!("event 5 7 {id}"));
        assert!(read::<PairPosition>(&pair).is_ok() && read::<EventPosition>(&event).is_ok());
        let invalid = [
            String::new(),
            "next".to_owned(),
            format!("{pair}="),
            format!("{pair}\n"),
            pair[1..].to_owned(),
            encode("pair 5"),
            encode("pair 5 7 9"),
            encode("pair +5 7"),
            encode("pair 05 7"),
            encode("pair 5 9223372036854775808"),
            encode("pair 5  7"),
            encode("event 5 7"),
            encode(&format!("event 5 7 {id}0")),
            encode("event 5 7 a\0b"),
            encode("event 5 7 a b"),
            URL_SAFE_NO_PAD.encode([0xff, 0xfe]),
        ];
        for cursor in &invalid {
            for refusal in [read::<PairPosition>(cursor).err(), read::<EventPosition>(cursor).err()] {
                let refusal = refusal.as_ref().map(|refusal| (refusal.reason(), refusal.message()));
                let expected = (Reason::ParameterInvalid, "cursor does not have a valid value");
                assert_eq!(refusal, Some(expected), "{cursor:?}");
            }
        }
        // The cursor of one list is not valid in the other.
        assert!(read::<PairPosition>(&event).is_err() && read::<EventPosition>(&pair).is_err());
    }

    proptest! {
        #[test]
        fn a_position_survives_its_cursor(at: i64, other: i64, id in "[!-~]{0,36}") {
            let pair = PairPosition { at, other };
            prop_assert_eq!(read(&write(&pair)), Ok(pair));
            let event = EventPosition { at, id, target: other };
            if !event.id.is_empty() {
                prop_assert_eq!(read(&write(&event)), Ok(event));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(cursor in ".{0,80}") {
            let _ = read::<PairPosition>(&cursor);
            let _ = read::<EventPosition>(&cursor);
        }
    }
}
