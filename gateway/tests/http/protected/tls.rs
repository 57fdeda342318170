//! An upstream with TLS, verified with the certificates of a file. The program `openssl` makes the certificates.

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

use crate::support::{
    protected::{Setup, store_table},
    send,
};

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

fn openssl(folder: &Path, arguments: &[&str]) {
    let ran = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Makes a self-signed certificate for a subject: `NAME.pem` and `NAME.key`.
fn self_signed(folder: &Path, name: &str, extensions: &[&str]) {
    let key = format!("{name}.key");
    let certificate = format!("{name}.pem");
    let subject = format!("/CN={name}");
    let files = ["-keyout", &key, "-out", &certificate, "-subj", &subject, "-days", "2"];
    let extensions = extensions.iter().flat_map(|extension| ["-addext", extension]);
    let all: Vec<_> = ["req", "-x509"].into_iter().chain(KEY).chain(files).chain(extensions).collect();
    openssl(folder, &all);
}

/// Makes a certificate for these names, signed by `ca`.
fn signed(folder: &Path, name: &str, names: &str, days: &str) {
    let key = format!("{name}.key");
    let certificate = format!("{name}.pem");
    let request = format!("{name}.csr");
    let files = ["-keyout", &key, "-out", &request, "-subj", "/CN=upstream"];
    openssl(folder, &["req", "-new"].into_iter().chain(KEY).chain(files).collect::<Vec<_>>());
    std::fs::write(folder.join("names"), format!("subjectAltName={names}\n")).unwrap();
    let ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
    let files = ["x509", "-req", "-in", &request, "-out", &certificate, "-days", days];
    openssl(folder, &files.into_iter().chain(ca).collect::<Vec<_>>());
}

/// Starts an upstream with this certificate. It answers one request on each connection.
async fn upstream(folder: &Path, name: &str) -> String {
    let certificates = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
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
async fn a_certificate_needs_a_known_authority_the_right_name_and_a_valid_time() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    self_signed(folder, "ca", &["basicConstraints=critical,CA:TRUE"]);
    signed(folder, "good", "IP:127.0.0.1", "2");
    signed(folder, "other_name", "DNS:elsewhere.example", "2");
    signed(folder, "expired", "IP:127.0.0.1", "-1");
    self_signed(folder, "itself", &["subjectAltName=IP:127.0.0.1"]);
    let ca = format!("ca_file = \"{}\"\n", folder.join("ca.pem").display());
    let cases = [
        ("good", ca.as_str(), true),
        ("good", "", false),
        ("other_name", &ca, false),
        ("expired", &ca, false),
        ("itself", &ca, false),
    ];
    for (name, ca_file, is_accepted) in cases {
        let table = store_table(&upstream(folder, name).await, ca_file, "GET", "/p/{id}");
        let setup = Setup::with_table(&table).await;
        let answer = send(setup.get("/p/42")).await;
        if is_accepted {
            assert_eq!((answer.status, answer.body.as_str()), (200, "behind"), "{name}");
        } else {
            assert_eq!(answer.refusal(), (502, "upstream_unavailable".into()), "{name} {ca_file}");
        }
    }
}
