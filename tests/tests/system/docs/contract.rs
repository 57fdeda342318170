//! The pages about the tables of the contract: refusals, credentials, headers, secrets.

use std::fmt::Write as _;

use proto::{
    contract::{METHODS, Place, ReasonSpec},
    paddock::contract::v1::{CredentialKind, InternalHeader, LogLevel, Process, Reason, Secret, SecretEncoding},
};

use super::{
    cell,
    descriptors::{contract_comment, field_comment, field_option, option_text, pool},
    header,
};

const REFUSALS: &str = "\
Every answer that is not a success says why, in JSON:

```json
{
  \"message\": \"403 Forbidden - runner token expired\",
  \"reason\": \"runner_token_expired\",
  \"remedy\": \"Reset the token by runner id with a personal access token; an expired token cannot renew itself.\",
  \"request_id\": \"01JD7Z3N8K6QW2V5T9X4B0C1EF\"
}
```

`message` has GitLab's wording, and may be more precise than below. If GitLab answers under `error`, the text is under both
keys. `reason` is stable: match on it. `request_id` is also the header `X-Request-Id`, and finds the log line. If a pause helps,
the header `Retry-After` gives it in whole seconds.

A refusal (4xx) is caused by the client: it is logged once at INFO and never counted as an error of the server.
A fault (5xx) is caused by Paddock: it is logged at ERROR, and is never a 401 or 403.
";

const CREDENTIALS: &str = "\
The credentials of callers, and the places of a request that can carry them. A request with two different values of a credential is
refused with [`conflicting_credentials`](refusals.md#conflicting_credentials). The same value in two places is accepted. A token is
either random characters with a checksum, of which only the digest is stored, or a signed JSON Web Token, which is not stored. So a
mistyped token is refused without a look-up.
";

const HEADERS: &str = "\
The headers (gRPC metadata keys) that the processes exchange. The gateway removes all of them from the requests of clients.
";

const SECRETS: &str = "\
The secrets that processes share or keep. Each is a file in the folder `secrets.folder` of the
[configuration](configuration.md); no secret is a setting or an environment variable. A file that is missing, empty, padded with
white space, too short or a placeholder ends the process at start, with a line that names object, key and file. `paddock serve`
creates its secrets on first start.
";

fn spec(reason: Reason) -> &'static ReasonSpec {
    reason.spec().expect("ALL lists only reasons with a specification")
}

pub fn refusals() -> String {
    let mut out = header("Refusals and faults", "`reason.proto`", REFUSALS);
    out.push_str("\n| Reason | Status | Message |\n|---|---|---|\n");
    for reason in Reason::ALL {
        let spec = spec(reason);
        let _ = writeln!(out, "| [`{0}`](#{0}) | {1} | {2} |", spec.code, spec.http_status, cell(spec.message));
    }
    for reason in Reason::ALL {
        render_reason(&mut out, reason);
    }
    out
}

fn render_reason(out: &mut String, reason: Reason) {
    let spec = spec(reason);
    let keys = if spec.error_key { "`message` and `error`" } else { "`message`" };
    let level = match spec.log_level {
        LogLevel::Info => "INFO",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERROR",
        LogLevel::Unspecified => panic!("{reason:?} has no log level"),
    };
    let retry = if spec.retryable { "the same request can succeed later" } else { "the same request fails again" };
    let _ = writeln!(out, "\n### {}\n\n{}\n", spec.code, contract_comment("Reason", reason as i32));
    let _ = writeln!(out, "- REST: {}, {keys}: \"{}\"", spec.http_status, spec.message);
    let _ = writeln!(out, "- gRPC: {:?}", tonic::Code::from_i32(spec.grpc_code));
    let _ = writeln!(out, "- Log: {level}. Retry: {retry}.");
    let _ = writeln!(out, "- What to do: {}", spec.remedy);
}

pub fn credentials() -> String {
    let mut out = header("Credentials", "`credential.proto`", CREDENTIALS);
    for kind in CredentialKind::ALL {
        let spec = kind.spec().expect("ALL lists only kinds with a specification");
        let _ = writeln!(
            out,
            "\n## {}\n\n{}\n",
            title(&format!("{kind:?}")),
            contract_comment("CredentialKind", kind as i32)
        );
        let _ =
            writeln!(out, "Begins with `{}`. It can be in these places, in the order of precedence:\n", spec.prefix);
        for carrier in spec.carriers {
            let place = match carrier.place {
                Place::Header(name) => format!("the header `{name}`"),
                Place::Parameter(name) => format!("the parameter `{name}` of body or query"),
                Place::BasicUsername(user) => {
                    format!("the password of basic authentication with the user name `{user}`")
                }
                Place::AuthorizationScheme(scheme) => format!("the header `authorization` with the scheme `{scheme}`"),
            };
            let only = if carrier.only_with_prefix { ", if the value has this prefix" } else { "" };
            let _ = writeln!(out, "1. {place}{only}");
        }
        out.push('\n');
        for (when, reason) in [
            ("It is missing", spec.missing),
            ("Its form or checksum is wrong", spec.malformed),
            ("It is of another kind", spec.wrong_kind),
        ] {
            let _ = writeln!(out, "- {when}: [`{0}`](refusals.md#{0})", self::spec(reason).code);
        }
    }
    out
}

/// `UserToken` as `User token`.
fn title(variant: &str) -> String {
    let mut out = String::new();
    for c in variant.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push(' ');
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

fn names(processes: &[Process]) -> String {
    processes.iter().map(|process| process.name()).collect::<Vec<_>>().join(", ")
}

pub fn headers() -> String {
    let mut out = header("Headers", "`header.proto` and the field options", "The headers that Paddock defines.\n");
    let _ =
        write!(out, "\n## Between processes\n\n{HEADERS}\n| Key | Meaning | Set by | Read by |\n|---|---|---|---|\n");
    for internal in InternalHeader::ALL {
        let spec = internal.spec().expect("ALL lists only headers with a specification");
        let comment = contract_comment("InternalHeader", internal as i32);
        let row = format!("| `{}` | {} | {} | {} |", spec.key, cell(&comment), names(spec.set_by), names(spec.read_by));
        let _ = writeln!(out, "{row}");
    }
    out.push_str("\n## In answers\n\n| Header | Route | Meaning |\n|---|---|---|\n");
    for method in METHODS.iter().filter(|method| method.rest.is_some()) {
        let (service, name) = method.path[1..].split_once('/').expect("a gRPC path");
        let service = pool().get_service_by_name(service).expect("a service of the contract");
        let descriptor = service.methods().find(|candidate| candidate.name() == name).expect("a method of it");
        for field in descriptor.output().fields() {
            let header = option_text(&field_option(&field), "response_header");
            if !header.is_empty() {
                let (verb, path) = method.rest.expect("filtered");
                let _ = writeln!(out, "| `{header}` | `{verb} {path}` | {} |", cell(&field_comment(&field)));
            }
        }
    }
    out
}

pub fn secrets() -> String {
    let mut out = header("Secrets", "`secret.proto`", SECRETS);
    for secret in Secret::ALL {
        let spec = secret.spec().expect("ALL lists only secrets with a specification");
        let encoding = match spec.encoding {
            SecretEncoding::Hex => "lower-case hexadecimal digits, two per byte",
            SecretEncoding::Text => "UTF-8 text, taken as it is",
            SecretEncoding::Unspecified => panic!("{secret:?} has no encoding"),
        };
        let _ = writeln!(out, "\n## {}\n\n{}\n", spec.file, contract_comment("Secret", secret as i32));
        let _ = writeln!(out, "- Object and key in a deployment: `{}`, `{}`", spec.name, spec.key);
        let _ = writeln!(out, "- Content: {encoding}; at least {} bytes", spec.min_bytes);
        let _ =
            writeln!(out, "- Read by: {}{}", names(spec.read_by), if spec.optional { "; may be missing" } else { "" });
        if !spec.produced_by.is_empty() {
            let _ = writeln!(out, "- Produced on first start by: {}", names(spec.produced_by));
        }
    }
    out
}
