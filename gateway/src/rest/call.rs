//! One gRPC call of a method that is known only by its descriptor.

use bytes::{Buf as _, BufMut as _, Bytes};
use chassis::{
    access::CallContext,
    client::{PeerChannel, Retry},
    client_id::ResolvedClient,
    status::{Fault, Refusal, Rejection},
};
use http::uri::PathAndQuery;
use prost_reflect::{DynamicMessage, MessageDescriptor, prost::Message as _};
use proto::paddock::contract::v1::Reason;
use tonic::{
    Request, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// The largest message that a service reads, in bytes: the default of gRPC.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The largest response that is read, in bytes. Responses are as large as what was stored. The services are ours, so
/// this only bounds the cost of a mistake in one of them.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The call of a method.
#[derive(Debug)]
pub struct CallPlan {
    /// The gRPC path.
    pub path: PathAndQuery,
    /// The message of the response.
    pub output: MessageDescriptor,
    /// Whether a call that got no response may be repeated.
    pub idempotent: bool,
    /// Whether the response is a stream of messages.
    pub streams: bool,
}

/// The response of a call: its first message, and the following ones if the method streams them.
pub struct CallResponse {
    /// The first message.
    pub first: DynamicMessage,
    /// The following ones.
    pub rest: Option<Streaming<DynamicMessage>>,
}

/// Calls the method. A call that found the service unavailable is repeated once if the contract allows it. `client` gets
/// the name of the credential's owner, also of a call that is refused or fails.
///
/// # Errors
/// Returns the service's refusal, the refusal of a message that is too large for it, or a fault if it did not respond
/// in time.
pub async fn call(
    channel: &PeerChannel,
    plan: &CallPlan,
    message: &DynamicMessage,
    context: CallContext,
    client: &ResolvedClient,
) -> Result<CallResponse, Rejection> {
    let bytes = Bytes::from(message.encode_to_vec());
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::new(Reason::BodyTooLarge).with_detail("the message is larger than the peer reads").into());
    }
    let retry = if plan.idempotent { Retry::ONCE } else { Retry::NEVER };
    retry.run(|| call_once(channel, plan, bytes.clone(), context.clone(), client.clone())).await
}

async fn call_once(
    channel: &PeerChannel,
    plan: &CallPlan,
    bytes: Bytes,
    context: CallContext,
    client: ResolvedClient,
) -> Result<CallResponse, Rejection> {
    let mut request = Request::new(bytes);
    request.extensions_mut().insert(context);
    request.extensions_mut().insert(client);
    let mut service = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
    service.ready().await.map_err(Status::from_error)?;
    let path = plan.path.clone();
    let codec = DynamicCodec(plan.output.clone());
    if !plan.streams {
        return Ok(CallResponse { first: service.unary(request, path, codec).await?.into_inner(), rest: None });
    }
    let mut rest = service.server_streaming(request, path, codec).await?.into_inner();
    let first = rest.message().await?.ok_or_else(|| Fault::internal("the stream of answers is empty"))?;
    Ok(CallResponse { first, rest: Some(rest) })
}

/// Sends messages that are encoded already, and receives messages of this type.
struct DynamicCodec(MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = Bytes;
    type Decode = DynamicMessage;
    type Encoder = BytesEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> BytesEncoder {
        BytesEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder(self.0.clone())
    }
}

struct BytesEncoder;

impl Encoder for BytesEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

struct DynamicDecoder(MessageDescriptor);

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = DynamicMessage::decode(self.0.clone(), bytes);
        message.map(Some).map_err(|error| Status::internal(format!("the answer cannot be decoded: {error}")))
    }
}
