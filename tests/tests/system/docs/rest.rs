//! `rest.md`: every REST route, its parameters and its answer.

use std::{collections::BTreeMap, fmt::Write as _};

use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use proto::{
    contract::{self, MethodSpec, Success},
    paddock::contract::v1::CredentialKind,
};

use super::{
    cell,
    descriptors::{
        field_comment, field_option, http_rule, message_comment, method_comment, option_text, pool, rest_type,
    },
    header, link_reasons,
};

const INTRODUCTION: &str = "\
Every route that the gateway serves itself. The routes that it forwards are in the table of
[protected routes](../how-to/protect-an-upstream.md). Parameters are read from JSON, forms, multipart and the query; unknown ones
are ignored. `:id` of a project or group takes the number or the URL-encoded full path. Times are ISO 8601 in UTC with
milliseconds. Lists take `page` and `per_page` and answer with the headers `X-Page`, `X-Per-Page`, `X-Next-Page`,
`X-Prev-Page`, `X-Total`, `X-Total-Pages` and `Link`; lists that grow while they are read take `cursor` and `per_page` and answer with
`X-Per-Page`, `X-Next-Cursor` and `Link`. The form of refusals: [refusals](refusals.md). The places of a
token: [credentials](credentials.md). The machine-readable form of this page: [openapi.json](openapi.json).
";

pub fn page() -> String {
    let mut out = header("REST routes", "the `.proto` files", INTRODUCTION);
    let services: Vec<_> = pool().services().filter(|service| routes(service).next().is_some()).collect();
    out.push_str("\n| Route | What it does |\n|---|---|\n");
    for (method, spec) in services.iter().flat_map(routes) {
        let text = method_comment(&method);
        let sentence = text.split_inclusive(". ").next().unwrap_or_default().trim();
        let _ = writeln!(out, "| [`{}`](#{}) | {} |", route(spec), spec.name.to_lowercase(), cell(sentence));
    }
    let mut objects = BTreeMap::new();
    for service in &services {
        let _ = writeln!(out, "\n## {}\n\n{}", service.name(), service_comment(service));
        for (method, spec) in routes(service) {
            render_method(&mut out, &method, spec, &mut objects);
        }
    }
    render_objects(&mut out, objects);
    out
}

fn routes(service: &ServiceDescriptor) -> impl Iterator<Item = (MethodDescriptor, &'static MethodSpec)> + use<> {
    let methods: Vec<_> = service.methods().collect();
    methods.into_iter().filter_map(|method| {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        contract::method(&path).filter(|spec| spec.rest.is_some()).map(|spec| (method, spec))
    })
}

/// `GET /runners/:id`, as the API's users write it.
fn route(spec: &MethodSpec) -> String {
    let (verb, path) = spec.rest.expect("a route");
    let path = path.trim_start_matches("/api/v4").replace('{', ":").replace('}', "");
    format!("{verb} {path}")
}

fn service_comment(service: &ServiceDescriptor) -> String {
    let file = service.parent_file();
    let info = file.file_descriptor_proto().source_code_info.as_ref().expect("comments are kept");
    let location = info.location.iter().find(|location| location.path == service.path()).expect("its place");
    location.leading_comments().lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

type Objects = BTreeMap<String, MessageDescriptor>;

fn render_method(out: &mut String, method: &MethodDescriptor, spec: &MethodSpec, objects: &mut Objects) {
    let _ = writeln!(out, "\n### {}\n\n`{}`\n\n{}\n", spec.name, route(spec), link_reasons(&method_comment(method)));
    let _ = writeln!(out, "- Caller: {}", caller(spec));
    let _ = writeln!(out, "- Success: {}", success(method, spec));
    if spec.idempotent {
        out.push_str("- A call without an answer may be repeated.\n");
    }
    render_parameters(out, method, spec);
    render_answer(out, method, objects);
}

fn caller(spec: &MethodSpec) -> String {
    let kinds = spec.accepts.iter().map(|kind| match kind {
        CredentialKind::UserToken => {
            let scopes: Vec<_> = spec.scopes.iter().map(|scope| format!("`{}`", scope.name())).collect();
            let who = if spec.admin { "an administrator" } else { "a user" };
            format!("{who}, token with scope {}", scopes.join(" or "))
        }
        CredentialKind::RunnerToken => "a runner, by its token".to_owned(),
        CredentialKind::JobToken => "a running job, by its token".to_owned(),
        CredentialKind::None => "anybody".to_owned(),
        CredentialKind::Process => "another process".to_owned(),
        CredentialKind::Unspecified => panic!("{}: not a caller of REST", spec.name),
    });
    kinds.collect::<Vec<_>>().join("; ")
}

fn success(method: &MethodDescriptor, spec: &MethodSpec) -> String {
    match spec.success {
        Success::Status(204) => "204, no body".to_owned(),
        Success::Status(status) => status.to_string(),
        Success::Field(name) => {
            let field = method.output().get_field_by_name(name).expect("the status field");
            field_comment(&field)
        }
    }
}

fn render_parameters(out: &mut String, method: &MethodDescriptor, spec: &MethodSpec) {
    let path = spec.rest.expect("a route").1;
    let mut rows = String::new();
    for field in method.input().fields() {
        if matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask") {
            continue;
        }
        let option = field_option(&field);
        let required = option.get_field_by_name("required").is_some_and(|value| value.as_bool() == Some(true));
        let in_path = path.contains(&format!("{{{}}}", field.name()));
        let need = if in_path {
            "path"
        } else if required {
            "required"
        } else {
            ""
        };
        let _ = writeln!(
            rows,
            "| `{}` | {} | {need} | {} |",
            field.name(),
            rest_type_plain(&field),
            cell(&field_comment(&field))
        );
    }
    if !rows.is_empty() {
        let _ = write!(out, "\n| Parameter | Type | | |\n|---|---|---|---|\n{rows}");
    }
}

/// Parameters that are messages are written as their fields in place.
fn rest_type_plain(field: &prost_reflect::FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(message) if message.full_name() != "google.protobuf.Timestamp" => {
            let names: Vec<_> = message.fields().map(|inner| format!("`{}`", inner.name())).collect();
            format!("object with {}", names.join(", "))
        }
        _ => rest_type(field),
    }
}

fn is_cursor(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if message.full_name() == "paddock.page.v1.Cursor")
}

fn render_answer(out: &mut String, method: &MethodDescriptor, objects: &mut Objects) {
    let response_body = http_rule(method).map(|rule| option_text(&rule, "response_body")).unwrap_or_default();
    if let Some(field) = method.output().get_field_by_name(&response_body) {
        if matches!(field.kind(), Kind::Message(message) if message.full_name() == "paddock.document.v1.Document") {
            out.push_str("\nAnswer: the file; its media type and its name are in the headers.\n");
            return;
        }
        if method.output().fields().any(|field| is_cursor(&field.kind())) {
            let _ = writeln!(out, "\nAnswer: {}, page by page with `cursor`.", rest_type(&field));
            collect(&field.kind(), objects);
            return;
        }
        let _ = writeln!(out, "\nAnswer: {}.", rest_type(&field));
        collect(&field.kind(), objects);
        return;
    }
    let mut rows = String::new();
    for field in method.output().fields() {
        let name = match option_text(&field_option(&field), "response_header") {
            header if header.is_empty() => format!("`{}`", field.name()),
            header => format!("header `{header}`"),
        };
        collect(&field.kind(), objects);
        let _ = writeln!(rows, "| {name} | {} | {} |", rest_type(&field), cell(&field_comment(&field)));
    }
    if !rows.is_empty() {
        let _ = write!(out, "\n| Answer | Type | |\n|---|---|---|\n{rows}");
    }
}

/// Remembers the message of a field, and those inside it.
fn collect(kind: &Kind, objects: &mut Objects) {
    let Kind::Message(message) = kind else { return };
    let known = message.full_name().starts_with("google.") || objects.contains_key(message.name());
    if !known {
        objects.insert(message.name().to_owned(), message.clone());
        message.fields().for_each(|field| collect(&field.kind(), objects));
    }
}

fn render_objects(out: &mut String, objects: Objects) {
    out.push_str("\n## Objects\n");
    for (name, message) in objects {
        let _ = writeln!(out, "\n### {name}\n\n{}\n\n| Field | Type | |\n|---|---|---|", message_comment(&message));
        for field in message.fields() {
            let optional = if field.supports_presence() && !field.is_list() { " or null" } else { "" };
            let plain = field.containing_oneof().is_some_and(|oneof| oneof.is_synthetic());
            let null = if plain { optional } else { "" };
            let _ = writeln!(
                out,
                "| `{}` | {}{null} | {} |",
                field.name(),
                rest_type(&field),
                cell(&field_comment(&field))
            );
        }
    }
}
