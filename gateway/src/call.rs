//! One gRPC call of a method that is known only by its descriptor.

use bytes::{Buf as _, BufMut as _, Bytes};
use chassis::access::CallContext;
use chassis::client::{PeerChannel, Retry};
use chassis::status::{Fault, Refusal, Rejection};
use http::uri::PathAndQuery;
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use proto::paddock::contract::v1::Reason;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status, Streaming};

/// The largest message that a peer reads, in bytes: the default of gRPC.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The largest answer that is read, in bytes. Answers are as large as what was stored; the peer is one of ours, so that
/// this only bounds what a mistake of it can cost.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What is called, and how.
#[derive(Debug)]
pub struct CallPlan {
    /// The gRPC path.
    pub path: PathAndQuery,
    /// The message of the answer.
    pub output: MessageDescriptor,
    /// Whether a call without an answer may be repeated.
    pub idempotent: bool,
    /// Whether the answer is a stream of messages.
    pub streams: bool,
}

/// An answer: its first message, and those that follow if the method streams them.
pub struct Called {
    /// The first message.
    pub first: DynamicMessage,
    /// Those that follow.
    pub rest: Option<Streaming<DynamicMessage>>,
}

/// Calls the method. A call that found the peer unavailable is repeated once if the contract allows it.
///
/// # Errors
/// The peer's refusal, one of a message that is too large for it, or a fault if there was no answer in time or none at all.
pub async fn call(
    channel: &PeerChannel,
    plan: &CallPlan,
    message: &DynamicMessage,
    context: CallContext,
) -> Result<Called, Rejection> {
    let bytes = Bytes::from(message.encode_to_vec());
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::new(Reason::BodyTooLarge).with_detail("the message is larger than the peer reads").into());
    }
    let retry = if plan.idempotent { Retry::ONCE } else { Retry::NEVER };
    retry.run(|| once(channel, plan, bytes.clone(), context.clone())).await
}

async fn once(channel: &PeerChannel, plan: &CallPlan, bytes: Bytes, context: CallContext) -> Result<Called, Rejection> {
    let mut request = Request::new(bytes);
    request.extensions_mut().insert(context);
    let mut client = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
    client.ready().await.map_err(Status::from_error)?;
    let (path, codec) = (plan.path.clone(), DynamicCodec(plan.output.clone()));
    if !plan.streams {
        return Ok(Called { first: client.unary(request, path, codec).await?.into_inner(), rest: None });
    }
    let mut rest = client.server_streaming(request, path, codec).await?.into_inner();
    let first = rest.message().await?.ok_or_else(|| Fault::internal("the stream of answers is empty"))?;
    Ok(Called { first, rest: Some(rest) })
}

/// Sends encoded messages, receives messages of this type.
struct DynamicCodec(MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = Bytes;
    type Decode = DynamicMessage;
    type Encoder = Encoded;
    type Decoder = Decoding;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Decoding {
        Decoding(self.0.clone())
    }
}

struct Encoded;

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

struct Decoding(MessageDescriptor);

impl Decoder for Decoding {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = DynamicMessage::decode(self.0.clone(), bytes);
        message.map(Some).map_err(|error| Status::internal(format!("the answer cannot be decoded: {error}")))
    }
}
