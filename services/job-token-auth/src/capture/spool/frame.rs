//! The form of a record in a segment: its length and its CRC-32, four bytes each, then its bytes.

/// Size of the length and the checksum, in bytes.
const HEAD: usize = 8;

/// Maximum size of a frame, in bytes.
pub const MAX_FRAME: usize = HEAD + MAX_RECORD;

/// Maximum size of a record, in bytes. A greater length is damage.
pub const MAX_RECORD: usize = 1 << 20;

/// Appends a record to `to`. Returns false if the record is empty or too long.
#[must_use]
pub fn append(record: &[u8], to: &mut Vec<u8>) -> bool {
    let Some(length) = u32::try_from(record.len()).ok().filter(|_| (1..=MAX_RECORD).contains(&record.len())) else {
        return false;
    };
    to.extend(length.to_le_bytes());
    to.extend(crc32fast::hash(record).to_le_bytes());
    to.extend(record);
    true
}

/// Returns the first record of the bytes, and the size of its frame. None: it is incomplete or damaged.
#[must_use]
pub fn first(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let checksum = u32::from_le_bytes(bytes.get(4..HEAD)?.try_into().ok()?);
    let length = usize::try_from(length).ok().filter(|length| (1..=MAX_RECORD).contains(length))?;
    let record = bytes.get(HEAD..HEAD + length)?;
    (crc32fast::hash(record) == checksum).then_some((record, HEAD + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mut bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut records = Vec::new();
        while let Some((record, used)) = first(bytes) {
            records.push(record.to_vec());
            bytes = &bytes[used..];
        }
        (records, bytes.len())
    }

    #[test]
    fn a_record_that_cannot_be_read_back_is_not_written() {
        let mut bytes = Vec::new();
        assert!(!append(b"", &mut bytes));
        assert!(!append(&vec![7; MAX_RECORD + 1], &mut bytes));
        assert!(bytes.is_empty());
        assert!(append(&vec![7; MAX_RECORD], &mut bytes));
        assert_eq!(read(&bytes).0[0].len(), MAX_RECORD);
    }

    proptest! {
        #[test]
        fn what_is_whole_is_read_and_nothing_else(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..12),
            cut in any::<prop::sample::Index>(),
            flip in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for record in &records {
                prop_assert!(append(record, &mut bytes));
                ends.push(bytes.len());
            }
            prop_assert_eq!(read(&bytes), (records.clone(), 0));

            let cut = cut.index(bytes.len());
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            prop_assert_eq!(read(&bytes[..cut]), (records[..whole].to_vec(), cut - ends[whole]));

            let flip = flip.index(bytes.len());
            let harmed = ends.iter().filter(|end| **end <= flip).count() - 1;
            bytes[flip] ^= 1 << bit;
            prop_assert_eq!(read(&bytes).0, records[..harmed].to_vec());
        }
    }
}
