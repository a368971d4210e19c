//! Registries that refuse, fail, lie or keep quiet.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::user;

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1}]}"#;

/// Answers as the name of the repository says.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let case = path.split('/').nth(2).unwrap_or_default();
        let (status, kind, body) = match case {
            "" => ("200 OK", "application/json", "{}"),
            "e401" => (
                "401 Unauthorized",
                "application/json",
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
            ),
            "e404" => (
                "404 Not Found",
                "application/json",
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            ),
            "e429" => (
                "429 Too Many Requests",
                "application/json",
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"too many"}]}"#,
            ),
            "e500" => ("500 Internal Server Error", "text/plain", "broken"),
            "slow" => {
                std::thread::sleep(Duration::from_secs(8));
                return Ok(());
            }
            "html" => ("200 OK", "text/html", "<html>log in</html>"),
            "lie" if path.contains("/blobs/") => {
                ("200 OK", "application/octet-stream", "{\"not\": \"it\"}")
            }
            _ => (
                "200 OK",
                "application/vnd.oci.image.manifest.v1+json",
                MANIFEST,
            ),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{}",
            body.len(),
            if request.starts_with("HEAD") {
                ""
            } else {
                body
            }
        )?;
        stream.flush()?;
    }
}

#[test]
fn what_a_registry_does_wrong_is_one_clear_line_and_leaves_nothing() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    let wrong = format!("@sha256:{}", "1".repeat(64));
    // skopeo waits before it asks again who told it to wait: then the time limit ends it.
    let table = [
        ("e401/x:1", "unauthorized", "skopeo login"),
        ("e404/x:1", "manifest unknown", "check the name and the tag"),
        ("e429/x:1", "", "cvmfs-run.toml"),
        ("e500/x:1", "500", "check the registry"),
        ("slow/x:1", "", "did not answer in 3 s"),
        ("html/x:1", "", ""),
        ("lie/x:1", "cannot fetch", ""),
        (&format!("lie/x{wrong}"), "digest", ""),
    ];
    for (name, why, hint) in table {
        let said = user(&format!(
            "store=$(cat ~/.config/containers/storage.conf)\n\
             export HOME=$(mktemp -d $HOME/XXXXXX); export TMPDIR=$HOME/tmp; mkdir $TMPDIR\n\
             trap 'rm -rf $HOME' EXIT\n\
             mkdir -p ~/.config/cvmfs-run ~/.config/containers/registries.conf.d\n\
             echo 'timeout = 3' >~/.config/cvmfs-run/cvmfs-run.toml\n\
             printf '[[registry]]\\nlocation = \"{address}\"\\ninsecure = true\\n' >~/.config/containers/registries.conf.d/x.conf\n\
             echo \"$store\" >~/.config/containers/storage.conf\n\
             cvmfs-image pull --source registry {address}/{name}; code=$?\n\
             ls -A $TMPDIR; podman images -q {address}/{name}; exit $code"
        ));
        assert_eq!(said.code, 1, "{name}: {said:?}");
        assert_eq!(said.out, "", "{name}: nothing is left");
        assert_eq!(said.err.trim().lines().count(), 1, "{name}: {said:?}");
        assert!(
            said.err.contains(why) && said.err.contains(hint),
            "{name}: {said:?}"
        );
    }
}

/// A server of the test's answers as it is told.
#[test]
fn the_server_of_these_tests_answers() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("its address");
    std::thread::spawn(move || {
        let (stream, _) = server.accept().expect("a client");
        drop(answer(stream));
    });
    let mut client = TcpStream::connect(address).expect("the server");
    client
        .write_all(b"GET /v2/e404/x/manifests/1 HTTP/1.1\r\n\r\n")
        .expect("a request");
    client.shutdown(std::net::Shutdown::Write).expect("the end");
    let mut text = String::new();
    client.read_to_string(&mut text).expect("an answer");
    assert!(
        text.starts_with("HTTP/1.1 404 ") && text.contains("MANIFEST_UNKNOWN"),
        "{text}"
    );
}
