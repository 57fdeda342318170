//! The keys in Redis.

/// The keys of a partition.
#[derive(Clone, Debug)]
pub struct PartitionKeys {
    /// Hash: id to encoded capture.
    pub pending: String,
    /// Sorted set: ids by deadline.
    pub deadlines: String,
    /// Stream: records on their way to the log.
    pub stream: String,
    /// Stream: records that cannot be read.
    pub unreadable: String,
    /// The prefix of the key of every producer's mark.
    producer_prefix: String,
}

impl PartitionKeys {
    /// Returns the keys of a partition. The part in braces decides on the slot of a cluster.
    pub fn new(prefix: &str, partition: u16) -> Self {
        let partition_prefix = format!("{{{prefix}:{partition}}}");
        Self {
            pending: format!("{partition_prefix}:pending"),
            deadlines: format!("{partition_prefix}:deadlines"),
            stream: format!("{partition_prefix}:stream"),
            unreadable: format!("{partition_prefix}:unreadable"),
            producer_prefix: format!("{partition_prefix}:producer"),
        }
    }

    /// Returns the key of a producer's mark. String: the number of its last batch, and of its last record.
    pub fn producer_mark(&self, producer: &str) -> String {
        format!("{}:{producer}", self.producer_prefix)
    }
}
