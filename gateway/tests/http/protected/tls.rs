//! An upstream behind TLS, verified with the certificates of a file. They are made with the program `openssl`.

use std::{path::Path, process::Command, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{protected::Setup, send};

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

fn openssl(place: &Path, arguments: &[&str]) {
    let ran = Command::new("openssl").args(arguments).current_dir(place).output().expect("openssl is installed");
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A certificate for a subject, signed by itself: `NAME.pem` and `NAME.key`.
fn self_signed(place: &Path, name: &str, extensions: &[&str]) {
    let (key, certificate, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
    let files = ["-keyout", &key, "-out", &certificate, "-subj", &subject, "-days", "2"];
    let extensions = extensions.iter().flat_map(|extension| ["-addext", extension]);
    let all: Vec<_> = ["req", "-x509"].into_iter().chain(KEY).chain(files).chain(extensions).collect();
    openssl(place, &all);
}

/// A certificate for these names, signed by `ca`.
fn signed(place: &Path, name: &str, names: &str, days: &str) {
    let (key, certificate, request) = (format!("{name}.key"), format!("{name}.pem"), format!("{name}.csr"));
    let files = ["-keyout", &key, "-out", &request, "-subj", "/CN=upstream"];
    openssl(place, &["req", "-new"].into_iter().chain(KEY).chain(files).collect::<Vec<_>>());
    std::fs::write(place.join("names"), format!("subjectAltName={names}\n")).unwrap();
    let ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
    let files = ["x509", "-req", "-in", &request, "-out", &certificate, "-days", days];
    openssl(place, &files.into_iter().chain(ca).collect::<Vec<_>>());
}

/// An upstream with this certificate that answers one request on each connection.
async fn upstream(place: &Path, name: &str) -> String {
    let certificates = CertificateDer::pem_file_iter(place.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(place.join(format!("{name}.key"))).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(certificates.map(Result::unwrap).collect(), key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut some = [0; 4096];
            if stream.read(&mut some).await.is_ok_and(|count| count > 0) {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nbehind")
                    .await
                    .unwrap();
                let _ = stream.shutdown().await;
            }
        }
    });
    url
}

#[tokio::test]
async fn only_the_certificate_of_a_known_authority_for_the_name_and_the_time_is_taken() {
    let place = TempDir::new().unwrap();
    let place = place.path();
    self_signed(place, "ca", &["basicConstraints=critical,CA:TRUE"]);
    signed(place, "good", "IP:127.0.0.1", "2");
    signed(place, "other_name", "DNS:elsewhere.example", "2");
    signed(place, "expired", "IP:127.0.0.1", "-1");
    self_signed(place, "itself", &["subjectAltName=IP:127.0.0.1"]);
    let ca = format!("ca_file = \"{}\"\n", place.join("ca.pem").display());
    let cases = [
        ("good", ca.as_str(), true),
        ("good", "", false),
        ("other_name", &ca, false),
        ("expired", &ca, false),
        ("itself", &ca, false),
    ];
    for (name, ca_file, is_taken) in cases {
        let table = format!(
            "[upstreams.store]\nurl = \"{}\"\n{ca_file}[[routes]]\nmethod = \"GET\"\npath = \"/p/{{id}}\"\n\
             projects = [\"id\"]\npolicies = []\nupstream = \"store\"\n",
            upstream(place, name).await
        );
        let setup = Setup::with_table(&table).await;
        let answer = send(setup.get("/p/42")).await;
        if is_taken {
            assert_eq!((answer.status, answer.body.as_str()), (200, "behind"), "{name}");
        } else {
            assert_eq!(answer.refusal(), (502, "upstream_unavailable".into()), "{name} {ca_file}");
        }
    }
}
