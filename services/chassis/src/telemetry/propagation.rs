//! Carries the trace context (W3C Trace Context) of a request from process to process in its headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    global,
    propagation::{Extractor, Injector},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::is_tracing;

/// Writes the context of the span into the headers of a call.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    if is_tracing() {
        global::get_text_map_propagator(|propagator| propagator.inject_context(&span.context(), &mut Headers(headers)));
    }
}

/// Makes the context in the headers of a request the parent of the span.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if is_tracing() {
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&HeadersRef(headers)));
        // Fails only for a span that no layer records.
        let _ = span.set_parent(parent);
    }
}

struct Headers<'a>(&'a mut HeaderMap);

struct HeadersRef<'a>(&'a HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

impl Extractor for HeadersRef<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
