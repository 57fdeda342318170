//! Forged tokens are never valid: the attacks that RFC 8725 lists, and other changes of a valid token.

use std::{collections::BTreeSet, fs, path::Path};

use ::token::MAX_JWT_LENGTH;
use proto::paddock::contract::v1::CredentialKind;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::*;
use crate::job_token::token::{Claims, JobToken};

const NOW: OffsetDateTime = datetime!(2026-01-15 12:00:00 UTC);

/// The order of the group of Ed25519, least significant byte first: RFC 8032, section 5.1.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn seed(byte: u8) -> SecretBytes {
    (0..32).map(|i| byte ^ i).collect::<Vec<u8>>().into()
}

fn keys(current: u8, previous: Option<u8>) -> SigningKeys {
    SigningKeys::from_seeds(&seed(current), previous.map(seed).as_ref()).unwrap()
}

fn claims() -> Claims {
    Claims::new(7, 40, 3, NOW, NOW + Duration::hours(1))
}

fn token(keys: &SigningKeys) -> String {
    JobToken::issue(keys, &claims()).unwrap().expose().to_owned()
}

fn is_valid(keys: &SigningKeys, text: &str) -> bool {
    JobToken::parse(text.to_owned()).is_ok_and(|token| token.verify(keys).is_ok())
}

fn prefix() -> &'static str {
    CredentialKind::JobToken.spec().unwrap().prefix
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A text with any header and any claims, signed with the seed.
fn signed(by: u8, header: &str, claims: impl AsRef<[u8]>) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let pair = Ed25519KeyPair::from_seed_unchecked(seed(by).expose()).unwrap();
    format!("{}{message}.{}", prefix(), encode(pair.sign(message.as_bytes())))
}

/// The attacks, each with what it tries, against keys made of the seeds 1 (current) and 2 (previous).
struct Attacks {
    tried: Vec<(String, String)>,
    header: Value,
    claims: Value,
    good: String,
    id: String,
}

impl Attacks {
    fn new() -> Self {
        let ours = keys(1, Some(2));
        let id = ours.public()[0].kid.clone();
        let good = token(&ours);
        let header = json!({"typ": Purpose::Job.header_type(), "alg": "EdDSA", "kid": id});
        Self { tried: Vec::new(), header, claims: serde_json::to_value(claims()).unwrap(), good, id }
    }

    fn with(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.tried.push((what.into(), text.into()));
    }

    fn with_header(&mut self, by: u8, header: &Value) {
        let text = signed(by, &header.to_string(), self.claims.to_string());
        self.with(format!("header {header} signed by {by}"), text);
    }

    fn with_claims(&mut self, claims: impl AsRef<[u8]>) {
        let what = String::from_utf8_lossy(claims.as_ref()).into_owned();
        let text = signed(1, &self.header.to_string(), claims);
        self.with(format!("claims {what}"), text);
    }

    fn changed(value: &Value, name: &str, to: Value) -> Value {
        let mut value = value.clone();
        value[name] = to;
        value
    }

    fn without(value: &Value, name: &str) -> Value {
        let mut value = value.clone();
        value.as_object_mut().unwrap().remove(name);
        value
    }

    /// The good token with another signature.
    fn with_signature(&self, signature: &str) -> String {
        let (header, claims, _) = self.parts();
        format!("{}{header}.{claims}.{signature}", prefix())
    }

    fn parts(&self) -> (String, String, Vec<u8>) {
        let mut parts = self.good[prefix().len()..].split('.');
        let header = parts.next().unwrap().to_owned();
        let claims = parts.next().unwrap().to_owned();
        (header, claims, URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap())
    }

    /// Another algorithm, or none.
    fn algorithms(&mut self) {
        let names =
            ["none", "None", "NONE", "nOnE", "", "HS256", "RS256", "PS256", "ES256", "Ed25519", "EDDSA", "eddsa"];
        for name in names {
            let header = Self::changed(&self.header, "alg", json!(name));
            self.with_header(1, &header);
            let message = format!("{}.{}", encode(header.to_string()), encode(self.claims.to_string()));
            self.with(format!("unsigned {name}"), format!("{}{message}.", prefix()));
        }
        for other in [Value::Null, json!(0), json!(["EdDSA"]), json!({"EdDSA": 1})] {
            self.with_header(1, &Self::changed(&self.header, "alg", other));
        }
        let duplicate = format!(r#"{{"alg":"none","alg":"EdDSA","typ":"{}","kid":"{}"}}"#, "paddock-job+jwt", self.id);
        let claims = self.claims.to_string();
        self.with("alg twice", signed(1, &duplicate, claims));
    }

    /// A symmetric algorithm with the public key as the secret.
    fn public_key_as_secret(&mut self) {
        let public = keys(1, None).public().remove(0);
        let raw = URL_SAFE_NO_PAD.decode(&public.x).unwrap();
        let der = [&hex::decode("302a300506032b6570032100").unwrap(), &raw[..]].concat();
        let base64 = base64::engine::general_purpose::STANDARD.encode(&der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
        let jwk = json!({"kty": public.kty, "crv": public.crv, "x": public.x}).to_string();
        let secrets: [&[u8]; 8] = [
            &raw,
            public.x.as_bytes(),
            &der,
            base64.as_bytes(),
            pem.as_bytes(),
            jwk.as_bytes(),
            public.kid.as_bytes(),
            b"",
        ];
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            for secret in secrets {
                let typ = Some(Purpose::Job.header_type().to_owned());
                let header = Header { typ, kid: Some(public.kid.clone()), ..Header::new(algorithm) };
                let text = jsonwebtoken::encode(&header, &self.claims, &jsonwebtoken::EncodingKey::from_secret(secret))
                    .unwrap();
                self.with(
                    format!("{algorithm:?} with {} bytes of public key", secret.len()),
                    [prefix(), &text].concat(),
                );
            }
        }
    }

    /// Headers that bring a key along, point to one, or say that they are for something else.
    fn headers(&mut self) {
        let theirs = keys(9, None).public().remove(0);
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": theirs.x, "kid": theirs.kid, "alg": "EdDSA"});
        let extra = [
            ("jwk", jwk),
            ("jku", json!("https://attacker.example/jwks.json")),
            ("x5u", json!("https://attacker.example/c.pem")),
            ("x5c", json!(["MIIB"])),
            ("x5t", json!("AAAA")),
            ("x5t#S256", json!("AAAA")),
            ("crit", json!(["b64"])),
            ("crit", json!(["exp"])),
            ("b64", json!(false)),
            ("zip", json!("DEF")),
            ("enc", json!("A128GCM")),
            ("cty", json!("JWT")),
            ("url", json!("https://a.example")),
            ("nonce", json!("1")),
            ("unknown", json!(1)),
        ];
        for (name, value) in extra {
            let header = Self::changed(&self.header, name, value);
            self.with_header(1, &header);
            self.with_header(9, &header);
        }
        for typ in ["JWT", "jwt", "at+jwt", "paddock-job", "PADDOCK-JOB+JWT", Purpose::Upstream.header_type(), ""] {
            self.with_header(1, &Self::changed(&self.header, "typ", json!(typ)));
        }
        self.with_header(1, &Self::without(&self.header, "typ"));
        self.with_header(1, &Self::without(&self.header, "alg"));
        for header in ["", "{}", "[]", "null", "\"\"", "{\"alg\":\"EdDSA\"", "\u{0}"] {
            let claims = self.claims.to_string();
            self.with(format!("header {header:?}"), signed(1, header, claims));
        }
    }

    /// Key ids that name no key, or another one.
    fn key_ids(&mut self) {
        let previous = keys(2, None).public()[0].kid.clone();
        let theirs = keys(9, None).public()[0].kid.clone();
        let ids = [
            json!(previous),
            json!(theirs),
            json!(""),
            json!("../../../dev/null"),
            json!("/dev/null"),
            json!("' OR '1'='1"),
            json!("| whoami"),
            json!("*"),
            json!("0"),
            json!(0),
            json!([self.id]),
            json!({"id": self.id}),
            Value::Null,
            json!(format!("{}\0", self.id)),
            json!(format!(" {}", self.id)),
            json!(self.id.to_uppercase()),
            json!(self.id[..15]),
            json!("a".repeat(1000)),
        ];
        for id in ids {
            self.with_header(1, &Self::changed(&self.header, "kid", id));
        }
        self.with_header(1, &Self::without(&self.header, "kid"));
        let ours = self.header.clone();
        let theirs = Self::changed(&self.header, "kid", json!(theirs));
        self.with_header(9, &ours);
        self.with_header(2, &ours);
        self.with_header(9, &theirs);
    }

    /// Signatures that were cut, changed, or written in another way.
    fn signatures(&mut self) {
        let (_, _, signature) = self.parts();
        for length in 0..64 {
            self.with(format!("{length} bytes of signature"), self.with_signature(&encode(&signature[..length])));
        }
        for at in 0..64 {
            let mut changed = signature.clone();
            changed[at] ^= 1 << (at % 8);
            self.with(format!("bit of byte {at} changed"), self.with_signature(&encode(changed)));
        }
        let mut carry = 0;
        let mut other_form = signature.clone();
        for (byte, order) in other_form[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        self.with("the order of the group added", self.with_signature(&encode(other_form)));
        let doubled = [signature.clone(), signature.clone()].concat();
        let written = encode(&signature);
        let last = written.chars().last().unwrap();
        let sloppy = format!("{}{}", &written[..written.len() - 1], char::from(last as u8 + 1));
        for (what, other) in [
            ("zeros", encode([0; 64])),
            ("ones", encode([0xff; 64])),
            ("doubled", encode(doubled)),
            ("padded", format!("{written}==")),
            ("sloppy last bits", sloppy),
            ("a space after", format!("{written} ")),
            ("a line break after", format!("{written}\n")),
            ("a zero byte after", format!("{written}\0")),
            ("hexadecimal", hex::encode(&signature)),
        ] {
            self.with(what, self.with_signature(&other));
        }
    }

    /// Claims that were changed without the key, and claims of another kind with it.
    fn claims(&mut self) {
        let (header, _, signature) = self.parts();
        for (name, value) in
            [("job_id", json!(8)), ("project_id", json!(1)), ("user_id", json!(1)), ("exp", json!(4_000_000_000_i64))]
        {
            let claims = Self::changed(&self.claims, name, value);
            let text = format!("{}{header}.{}.{}", prefix(), encode(claims.to_string()), encode(&signature));
            self.with(format!("changed {name}"), text);
        }
        let others = [
            ("aud", json!("artifacts")),
            ("aud", json!(["artifacts", ISSUER])),
            ("aud", Value::Null),
            ("aud", json!("")),
            ("iss", json!("gateway")),
            ("iss", json!("")),
            ("iss", json!([ISSUER, "gateway"])),
            ("iss", Value::Null),
            ("sub", json!("job:8")),
            ("sub", json!("7")),
            ("sub", json!("user:7")),
            ("job_id", json!("7")),
            ("job_id", json!(7.5)),
            ("job_id", json!(8)),
            ("job_id", json!(1e30)),
            ("user_id", Value::Null),
            ("exp", json!("never")),
            ("exp", json!(1e30)),
            ("nbf", json!("now")),
            ("project_id", json!([40])),
        ];
        for (name, value) in others {
            self.with_claims(Self::changed(&self.claims, name, value).to_string());
        }
        for name in ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "job_id", "project_id", "user_id"] {
            self.with_claims(Self::without(&self.claims, name).to_string());
        }
        let twice = self.claims.to_string().replacen('{', r#"{"job_id":8,"#, 1);
        let nested = self.good[prefix().len()..].to_owned();
        let others = ["", "{}", "[]", "null", "7", &twice, &nested, "{\"a\":1}{\"b\":2}"]
            .map(|claims| claims.as_bytes().to_vec());
        for claims in others.into_iter().chain([vec![0xff, 0xfe], vec![0; 8]]) {
            self.with_claims(claims);
        }
    }

    /// Texts that are no compact serialization of one signed text, or carry the prefix wrongly.
    fn forms(&mut self) {
        let (header, claims, signature) = self.parts();
        let signature = encode(signature);
        let good = self.good.clone();
        let body = &good[prefix().len()..];
        let json = json!({"protected": header, "payload": claims, "signature": signature}).to_string();
        let longer = signed(
            1,
            &self.header.to_string(),
            Self::changed(&self.claims, "jti", json!("a".repeat(MAX_JWT_LENGTH))).to_string(),
        );
        for (what, text) in [
            ("no prefix", body.to_owned()),
            ("prefix twice", format!("{}{good}", prefix())),
            ("prefix in capitals", format!("{}{body}", prefix().to_uppercase())),
            ("prefix alone", prefix().to_owned()),
            ("a space before", format!(" {good}")),
            ("a space after the prefix", format!("{} {body}", prefix())),
            ("nothing", String::new()),
            ("dots", format!("{}..", prefix())),
            ("four dots", format!("{}....", prefix())),
            ("two parts", format!("{}{header}.{claims}", prefix())),
            ("four parts", format!("{good}.{signature}")),
            ("a part before", format!("{}{header}.{body}", prefix())),
            ("parts swapped", format!("{}{claims}.{header}.{signature}", prefix())),
            ("as JSON", format!("{}{json}", prefix())),
            ("too long", longer),
            ("a comma list", format!("{good},{good}")),
            ("percent signs", good.replace('.', "%2E")),
            ("lower case", good.to_lowercase()),
            ("another alphabet", format!("{}{}", prefix(), body.replace(['-', '_'], "+"))),
            ("a line break within", good.replacen('.', ".\n", 1)),
            ("encrypted form", format!("{}{header}.a.b.c.d", prefix())),
        ] {
            if text != good {
                self.with(what, text);
            }
        }
    }
}

#[test]
fn no_forged_token_is_valid() {
    let ours = keys(1, Some(2));
    let mut attacks = Attacks::new();
    // The helper of the attacks can make a valid token.
    let control = signed(1, &attacks.header.to_string(), attacks.claims.to_string());
    assert!(is_valid(&ours, &attacks.good) && is_valid(&ours, &control));
    attacks.algorithms();
    attacks.public_key_as_secret();
    attacks.headers();
    attacks.key_ids();
    attacks.signatures();
    attacks.claims();
    attacks.forms();
    let valid: Vec<_> = attacks.tried.iter().filter(|(_, text)| is_valid(&ours, text)).map(|(what, _)| what).collect();
    assert!(attacks.tried.len() >= 300, "{} attacks", attacks.tried.len());
    assert_eq!(valid, Vec::<&String>::new());
}

#[test]
fn a_job_token_and_an_identity_for_an_upstream_are_not_interchangeable() {
    let keys = keys(1, None);
    let claims = claims();
    // Not even with the claims of the other, nor for an upstream with the name of this process.
    let identity = keys.sign(Purpose::Upstream, &claims).unwrap();
    assert!(keys.verify::<Claims>(Purpose::Upstream, ISSUER, &identity).is_ok());
    assert!(!is_valid(&keys, &format!("{}{identity}", prefix())));
    let token = token(&keys);
    let signed = &token[prefix().len()..];
    assert!(keys.verify::<Claims>(Purpose::Job, ISSUER, signed).is_ok());
    assert!(keys.verify::<Claims>(Purpose::Upstream, ISSUER, signed).is_err());
    assert!(keys.verify::<Claims>(Purpose::Upstream, "artifacts", &identity).is_err(), "another audience");
}

#[test]
fn a_token_is_valid_from_its_issue_to_its_expiry() {
    let claims = claims();
    let second = Duration::seconds(1);
    let end = NOW + Duration::hours(1);
    for (at, expected) in [
        (NOW, None),
        (end - second, None),
        (end, Some("job_token_expired")),
        (end + Duration::days(9999), Some("job_token_expired")),
        (NOW - second * 300, None),
        (NOW - second * 301, Some("job_token_invalid")),
    ] {
        let reason = claims.check_times(at).err().map(|refusal| refusal.spec().code);
        assert_eq!(reason, expected, "{at}");
    }
}

#[test]
fn a_token_is_short_and_never_shows_itself() {
    let claims = Claims::new(i64::MAX, i64::MAX, i64::MAX, NOW, NOW + Duration::days(30));
    let token = JobToken::issue(&keys(1, None), &claims).unwrap();
    assert!(token.expose().len() < MAX_JWT_LENGTH / 2, "{} bytes", token.expose().len());
    assert_eq!(format!("{token:?}"), "JobToken");
    assert_eq!(token.verify(&keys(1, None)).unwrap(), claims);
}

#[test]
fn the_previous_key_verifies_and_signs_nothing() {
    let old = keys(2, None);
    let both = keys(1, Some(2));
    let new = keys(1, None);
    assert!(is_valid(&both, &token(&old)));
    assert!(is_valid(&new, &token(&both)));
    assert!(!is_valid(&old, &token(&both)));
    assert!(!is_valid(&new, &token(&old)), "a retired key");
    let ids: Vec<_> = both.public().into_iter().map(|key| key.kid).collect();
    assert_eq!(ids, [new.public()[0].kid.clone(), old.public()[0].kid.clone()]);
}

fn public_ids(keys: &SigningKeys) -> BTreeSet<String> {
    keys.public().into_iter().map(|key| key.kid).collect()
}

#[test]
fn a_key_that_all_hold_as_the_previous_one_may_become_current_on_each_at_its_own_time() {
    let before = keys(1, Some(2));
    let after = keys(2, Some(1));
    assert!(is_valid(&before, &token(&after)) && is_valid(&after, &token(&before)));
    assert_eq!(public_ids(&before), public_ids(&after), "upstreams know the new key before it signs");
}

#[test]
fn public_keys_are_those_of_the_rfc() {
    // The first test of RFC 8032, section 7.1.
    let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
    let keys = SigningKeys::from_seeds(&seed.into(), None).unwrap();
    let key = keys.public().remove(0);
    assert_eq!(key.x, encode(hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap()));
    assert_eq!(
        (key.kty.as_str(), key.crv.as_str(), key.alg.as_str(), key.r#use.as_str()),
        ("OKP", "Ed25519", "EdDSA", "sig")
    );
    assert!(key.kid.len() == 16 && key.kid.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

fn write_seed(folder: &Path, secret: Secret, seed: &SecretBytes) {
    fs::write(folder.join(secret.spec().unwrap().file), hex::encode(seed.expose())).unwrap();
}

#[test]
fn keys_follow_their_files_and_outlive_broken_ones() {
    let folder = tempfile::tempdir().unwrap();
    let store = SecretStore::open(folder.path());
    assert!(SigningKeys::load(&store).is_err(), "no key, no service");
    write_seed(folder.path(), Secret::JobTokenSigningKey, &seed(1));
    let loaded = SigningKeys::load(&store).unwrap();
    let old = token(&loaded);

    write_seed(folder.path(), Secret::JobTokenSigningKeyPrevious, &seed(1));
    write_seed(folder.path(), Secret::JobTokenSigningKey, &seed(2));
    loaded.reload(&store);
    assert!(is_valid(&loaded, &old) && is_valid(&keys(2, None), &token(&loaded)));

    let long = SecretBytes::from((0..33).collect::<Vec<u8>>());
    write_seed(folder.path(), Secret::JobTokenSigningKey, &long);
    loaded.reload(&store);
    assert!(is_valid(&loaded, &old), "the last good keys stay");
    let error = SigningKeys::load(&store).err().unwrap().to_string();
    let file = Secret::JobTokenSigningKey.spec().unwrap().file;
    assert_eq!(error, format!("secret file {file}: an Ed25519 seed has 32 bytes, written as 64 hexadecimal digits"));
}
