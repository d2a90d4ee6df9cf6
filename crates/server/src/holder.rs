//! Which process uses a port, for an error that says so. Linux only: elsewhere nobody is found.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// The process that listens on the port: `process 4711 (nginx)`. `None` when it is another
/// user's, whose sockets this one may not see.
pub fn of_port(address: SocketAddr, is_udp: bool) -> Option<String> {
    let tables = if is_udp {
        ["/proc/net/udp", "/proc/net/udp6"]
    } else {
        ["/proc/net/tcp", "/proc/net/tcp6"]
    };
    let inodes: Vec<String> = tables
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| inodes(&table, address.port(), is_udp))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|entry| is_number(&entry.file_name().to_string_lossy()))
        .find(|entry| holds(&entry.path(), &inodes))
        .map(|entry| {
            let pid = entry.file_name().to_string_lossy().into_owned();
            match fs::read_to_string(entry.path().join("comm")) {
                Ok(name) => format!("process {pid} ({})", name.trim_end()),
                Err(_) => format!("process {pid}"),
            }
        })
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The inodes of sockets bound to the port in a table like `/proc/net/tcp`. Of TCP only those that
/// listen: others are connections that came from the port.
fn inodes(table: &str, port: u16, is_udp: bool) -> Vec<String> {
    const LISTENING: &str = "0A";
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let is_bound = columns.get(1)?.ends_with(&suffix);
            let counts = is_bound && (is_udp || *columns.get(3)? == LISTENING);
            counts.then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

fn holds(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| {
            let target = target.to_string_lossy();
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1
";
        assert_eq!(inodes(table, 8080, false), ["111"]);
        assert_eq!(inodes(table, 8080, true), ["111", "222"]);
        assert_eq!(inodes(table, 80, false), [""; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of_port(listener.local_addr().unwrap(), false).unwrap();
        assert!(
            holder.starts_with(&format!("process {} (", std::process::id())),
            "{holder}"
        );
    }
}
