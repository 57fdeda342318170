//! Clients of a service that call as somebody.

use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
};

use crate::{access::CallContext, client::PeerChannel};

/// A channel that gives every call the same context.
pub type CallerChannel = InterceptedService<PeerChannel, AddContext>;

/// Adds the context of the caller to every call.
#[derive(Clone, Debug)]
pub struct AddContext(CallContext);

impl Interceptor for AddContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.extensions_mut().insert(self.0.clone());
        Ok(request)
    }
}

/// Returns a channel whose calls have this context.
#[must_use]
pub fn channel(channel: &PeerChannel, context: &CallContext) -> CallerChannel {
    InterceptedService::new(channel.clone(), AddContext(context.clone()))
}
