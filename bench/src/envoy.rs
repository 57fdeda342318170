//! Envoy's configurations.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::upstream::AUTHORIZATION;

/// Returns the configuration of a transcoder, as in Envoy's documentation, with the options nearest to GitLab's JSON.
pub fn transcoder(address: SocketAddr, backend: SocketAddr, descriptors: &Path) -> Value {
    let transcoder = json!({
        "name": "envoy.filters.http.grpc_json_transcoder",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
            "proto_descriptor": descriptors,
            "services": ["paddock.runner.v1.RunnerTokenService"],
            "print_options": { "preserve_proto_field_names": true, "always_print_primitive_fields": true },
        }
    });
    let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} }
    }});
    let mut cluster = cluster("backend", backend);
    cluster["typed_extension_protocol_options"] = http2;
    proxy(address, &[transcoder], "backend", &[cluster])
}

/// Returns the configuration of a proxy that asks the upstream, on another path, whether a request is allowed.
pub fn ext_authz(address: SocketAddr, upstream: SocketAddr) -> Value {
    let filter = json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "http_service": {
                "server_uri": { "uri": format!("http://{upstream}"), "cluster": "files", "timeout": "5s" },
                "path_prefix": AUTHORIZATION
            }
        }
    });
    proxy(address, &[filter], "files", &[cluster("files", upstream)])
}

fn proxy(address: SocketAddr, filters: &[Value], cluster: &str, clusters: &[Value]) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" }
    });
    let filters: Vec<_> = filters.iter().cloned().chain([router]).collect();
    let manager = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": { "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } }]
            }]},
            "http_filters": filters
        }
    });
    json!({ "static_resources": {
        "listeners": [{ "address": socket(address), "filter_chains": [{ "filters": [manager] }] }],
        "clusters": clusters
    }})
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{
            "lb_endpoints": [{ "endpoint": { "address": socket(address) } }]
        }]}
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}
