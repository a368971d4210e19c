//! What is shown of long work, and to whom.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::complete::with_a_layer_more;
use crate::local::APART;
use crate::{registry, user};

/// How much the slow registry sends at once, and what it waits after that.
const PIECE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(60);

/// The registry as over a slow line; its address.
fn slow() -> String {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for client in server.incoming().flatten() {
            let server = TcpStream::connect(registry::address()).expect("the registry");
            let (mut up, mut down) = (
                (
                    client.try_clone().expect("a copy"),
                    server.try_clone().expect("a copy"),
                ),
                (server, client),
            );
            std::thread::spawn(move || std::io::copy(&mut up.0, &mut up.1));
            std::thread::spawn(move || {
                let mut piece = vec![0; PIECE];
                while let Ok(count) = down.0.read(&mut piece) {
                    if count == 0 || down.1.write_all(&piece[..count]).is_err() {
                        break;
                    }
                    if count > PIECE / 4 {
                        std::thread::sleep(PAUSE);
                    }
                }
                let _ = down.1.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn a_download_shows_a_bar_on_a_terminal_and_nothing_elsewhere() {
    // What no compression makes smaller.
    let mut state = 1_u64;
    let text: String = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    })
    .take(160_000)
    .collect();
    let name = with_a_layer_more("bars/slow:1", &text);
    let address = slow();
    let name = name.replace(registry::address(), &address);
    let script = format!(
        "{APART}
        printf '[[registry]]\\nlocation = \"%s\"\\ninsecure = true\\n' {address} >$HOME/.config/containers/registries.conf.d/slow.conf
        echo \"local = \\\"$d/tree\\\"\" >$settings
        pull='cvmfs-image pull --complete --to oci:'$d'/to:x {name}'
        "
    );
    let said = user(&format!(
        "{script} TERM=xterm script -qec \"$pull\" /dev/null"
    ));
    assert_eq!(said.code, 0, "{said:?}");
    let mut lines = said.out.split(['\r', '\n']);
    let bar = lines.find(|line| line.contains("downloading layers ["));
    let bar = bar.unwrap_or_else(|| panic!("no bar: {said:?}"));
    assert!(bar.contains("[=") && bar.contains(" MB"), "{bar}");
    let said = user(&format!("{script} $pull"));
    assert_eq!(said.code, 0, "{said:?}");
    for of_a_bar in ["downloading", "\r", "\u{1b}"] {
        assert!(!said.err.contains(of_a_bar), "{said:?}");
    }
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
}
