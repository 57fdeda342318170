//! Where the next page of a list begins, as the parameter `cursor` carries it: the place of the last row that was shown, in
//! base64url. Only what this service writes itself is read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::status::Refusal;
use proto::paddock::contract::v1::Reason;

use crate::store::log_reader::{EventKey, PairKey};

/// The length of a UUID in text.
const UUID: usize = 36;

/// A place in a list that has a cursor.
pub trait Place: Sized + PartialEq {
    /// The place in words.
    fn write(&self) -> String;

    /// The place that the words mean.
    fn read(words: &str) -> Option<Self>;
}

/// The cursor of a place.
pub fn write(place: &impl Place) -> String {
    URL_SAFE_NO_PAD.encode(place.write())
}

/// The place of a cursor.
///
/// # Errors
/// A refusal with `PARAMETER_INVALID` for anything but the cursor of such a place.
pub fn read<P: Place>(cursor: &str) -> Result<P, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let place = bytes.and_then(|bytes| P::read(std::str::from_utf8(&bytes).ok()?));
    // One place has one cursor, so that no other spelling of it is taken.
    place
        .filter(|place| write(place) == cursor)
        .ok_or_else(|| Refusal::new(Reason::ParameterInvalid).with_message("cursor does not have a valid value"))
}

impl Place for PairKey {
    fn write(&self) -> String {
        format!("pair {} {}", self.at, self.other)
    }

    fn read(words: &str) -> Option<Self> {
        let (at, other) = words.strip_prefix("pair ")?.split_once(' ')?;
        Some(Self { at: at.parse().ok()?, other: other.parse().ok()? })
    }
}

impl Place for EventKey {
    fn write(&self) -> String {
        format!("event {} {} {}", self.at, self.target, self.id)
    }

    fn read(words: &str) -> Option<Self> {
        let mut words = words.strip_prefix("event ")?.splitn(3, ' ');
        let (at, target, id) = (words.next()?, words.next()?, words.next()?);
        let is_id = id.len() <= UUID && id.bytes().all(|byte| byte.is_ascii_graphic());
        is_id.then_some(Self { at: at.parse().ok()?, target: target.parse().ok()?, id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rubbish_is_refused() {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let pair = encode("pair 5 7");
        let id = "0197b1e2-0000-7000-8000-000000000001";
        let event = encode(&format!("event 5 7 {id}"));
        assert!(read::<PairKey>(&pair).is_ok() && read::<EventKey>(&event).is_ok());
        let rubbish = [
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
        for cursor in &rubbish {
            for refusal in [read::<PairKey>(cursor).err(), read::<EventKey>(cursor).err()] {
                let told = refusal.as_ref().map(|refusal| (refusal.reason(), refusal.message()));
                let expected = (Reason::ParameterInvalid, "cursor does not have a valid value");
                assert_eq!(told, Some(expected), "{cursor:?}");
            }
        }
        // The cursor of one list is none of the other.
        assert!(read::<PairKey>(&event).is_err() && read::<EventKey>(&pair).is_err());
    }

    proptest! {
        #[test]
        fn a_place_survives_its_cursor(at: i64, other: i64, id in "[!-~]{0,36}") {
            let pair = PairKey { at, other };
            prop_assert_eq!(read(&write(&pair)), Ok(pair));
            let event = EventKey { at, id, target: other };
            if !event.id.is_empty() {
                prop_assert_eq!(read(&write(&event)), Ok(event));
            }
        }

        #[test]
        fn whatever_comes_is_read_or_refused(cursor in ".{0,80}") {
            let _ = read::<PairKey>(&cursor);
            let _ = read::<EventKey>(&cursor);
        }
    }
}
