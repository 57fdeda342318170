//! A file that a service streams. Each message is sent on as one chunk, only as fast as the client takes it, so that
//! the length of the file costs no memory.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use chassis::status::{Fault, Rejection};
use futures::stream::{self, BoxStream, Stream as _, StreamExt as _};
use hyper::body::Frame;
use prost_reflect::{DynamicMessage, FieldDescriptor};
use tonic::Status;
use tower::BoxError;

use super::document;
use crate::{
    connection::activity::ActiveRequest,
    observe::{access_log::AccessRecord, cut_off::CutOff},
};

/// The messages that hold the chunks.
type Messages = BoxStream<'static, Result<DynamicMessage, Status>>;

/// The body of a response that is a streamed file. It keeps the record of the request until it ends.
pub struct DocumentStream {
    chunks: BoxStream<'static, Result<Bytes, Rejection>>,
    status: u16,
    bytes: u64,
    record: Option<AccessRecord>,
    active: Option<ActiveRequest>,
}

impl DocumentStream {
    /// Returns the body that begins with this chunk. The others are in the field of the messages; the service may take
    /// `pause` for each.
    pub fn new(first: Bytes, rest: Messages, field: FieldDescriptor, status: u16, pause: Duration) -> Self {
        let rest = stream::unfold(Some(rest), move |rest| next_message(rest, pause));
        let rest = rest.map(move |message| message.map(|message| document::content(&field, &message)));
        let chunks = stream::iter([Ok(first)]).chain(rest).boxed();
        Self { chunks, status, bytes: 0, record: None, active: None }
    }

    /// Takes the record, which is written when the body ends.
    pub fn keep_record(&mut self, record: AccessRecord) {
        self.record = Some(record);
    }

    /// Keeps the connection from being idle until the body ends.
    pub fn keep_active(&mut self, active: ActiveRequest) {
        self.active = Some(active);
    }

    /// Polls for the next chunk. An error cuts the response off, which the client sees.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.chunks).poll_next(cx).map(|chunk| match chunk {
            Some(Ok(chunk)) => {
                self.bytes += chunk.len() as u64;
                Some(Ok(Frame::data(chunk)))
            }
            Some(Err(rejection)) => {
                self.end_with_fault(&rejection);
                Some(Err(format!("the answer is cut off: {}", rejection.spec().code).into()))
            }
            None => {
                self.finish_record(None);
                None
            }
        })
    }

    fn end_with_fault(&mut self, rejection: &Rejection) {
        if let Some(record) = &mut self.record {
            record.reject(rejection);
            let reason = rejection.spec().code;
            tracing::error!(correlation_id = record.request_id(), reason, "an answer was cut off");
        }
        self.finish_record(Some(CutOff::Upstream));
    }

    fn finish_record(&mut self, cut_off: Option<CutOff>) {
        if let Some(record) = self.record.take() {
            record.finish_streamed(self.status, self.bytes, cut_off);
        }
        self.active = None;
    }
}

impl Drop for DocumentStream {
    fn drop(&mut self) {
        self.finish_record(Some(CutOff::Client));
    }
}

/// Returns the next message, and the stream of those behind it unless this is the last one.
async fn next_message(
    rest: Option<Messages>,
    pause: Duration,
) -> Option<(Result<DynamicMessage, Rejection>, Option<Messages>)> {
    let mut rest = rest?;
    match tokio::time::timeout(pause, rest.next()).await {
        Ok(None) => None,
        Ok(Some(Ok(message))) => Some((Ok(message), Some(rest))),
        Ok(Some(Err(status))) => Some((Err(status.into()), None)),
        Err(_) => Some((Err(Fault::deadline_exceeded("the next chunk did not come in time").into()), None)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::future::poll_fn;
    use prost_reflect::DescriptorPool;
    use tokio::time::{Instant, advance};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    /// Returns a body whose chunks come after each of these times.
    fn paced(seconds: &'static [u64]) -> DocumentStream {
        let pool = DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
        let message = pool.get_message_by_name("paddock.job_token.v1.StreamAuthenticationLogCsvResponse").unwrap();
        let field = message.get_field_by_name("document").unwrap();
        let rest = stream::iter(seconds).then(move |seconds| {
            let message = DynamicMessage::new(message.clone());
            async move {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                Ok(message)
            }
        });
        DocumentStream::new(Bytes::from("first"), rest.boxed(), field, 200, PAUSE)
    }

    async fn count(mut chunks: DocumentStream) -> Result<usize, BoxError> {
        let mut count = 0;
        while let Some(chunk) = poll_fn(|cx| chunks.poll(cx)).await {
            chunk?;
            count += 1;
        }
        Ok(count)
    }

    #[tokio::test(start_paused = true)]
    async fn each_chunk_has_its_own_deadline() {
        let start = Instant::now();
        assert_eq!(count(paced(&[9, 9, 9, 9])).await.unwrap(), 5);
        assert_eq!(start.elapsed(), Duration::from_secs(36));
        let cut_off = count(paced(&[9, 11, 1])).await.unwrap_err();
        assert_eq!(cut_off.to_string(), "the answer is cut off: deadline_exceeded");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_time_cuts_nothing_off() {
        let mut chunks = paced(&[1, 1]);
        while let Some(chunk) = poll_fn(|cx| chunks.poll(cx)).await {
            chunk.unwrap();
            advance(PAUSE * 2).await;
        }
    }
}
