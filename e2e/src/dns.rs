//! A name server of the test's: answers by UDP what it is told to, and counts who asked what.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, task::JoinHandle};

/// What a name server says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// These addresses (by family), for so many seconds.
    Has(Vec<IpAddr>, u32),
    /// There is no such name.
    NxDomain,
    /// It is out of order.
    ServFail,
    /// Nothing.
    Silence,
}

/// A running name server. It stops when it is dropped.
pub struct NameServer {
    addr: SocketAddr,
    says: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl NameServer {
    /// Knows no name.
    pub async fn start() -> NameServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let addr = socket.local_addr().expect("its address");
        let says: Arc<Mutex<HashMap<String, Says>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (from, into) = (Arc::clone(&says), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut packet = [0; 2048];
            while let Ok((length, client)) = socket.recv_from(&mut packet).await {
                let Some(question) = Question::read(&packet[..length]) else { continue };
                let said = from.lock().expect("the names").get(&question.name).cloned();
                into.lock().expect("the questions").push(question.name.clone());
                if let Some(answer) = question.answer(&said.unwrap_or(Says::NxDomain)) {
                    let _ = socket.send_to(&answer, client).await;
                }
            }
        });
        NameServer { addr, says, asked, task }
    }

    /// From now on, this is what it says of a name.
    pub fn say(&self, name: &str, what: Says) {
        self.says.lock().expect("the names").insert(name.to_owned(), what);
    }

    /// These addresses for so many seconds.
    pub fn has(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.say(name, Says::Has(addresses, ttl));
    }

    /// Questions for a name so far, of both families.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().expect("the questions").iter().filter(|asked| *asked == name).count()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One question (RFC 1035 §4.1.2).
struct Question {
    id: [u8; 2],
    /// As it came: name, type, class.
    bytes: Vec<u8>,
    name: String,
    kind: u16,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl Question {
    fn read(packet: &[u8]) -> Option<Question> {
        let mut at = 12;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*packet.get(at)?);
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).to_lowercase());
            at += 1 + length;
        }
        let kind = u16::from_be_bytes([*packet.get(at + 1)?, *packet.get(at + 2)?]);
        let bytes = packet.get(12..at + 5)?.to_vec();
        Some(Question { id: [packet[0], packet[1]], bytes, name: labels.join("."), kind })
    }

    fn answer(&self, says: &Says) -> Option<Vec<u8>> {
        let (code, addresses, ttl) = match says {
            Says::Has(addresses, ttl) => (0, addresses.as_slice(), *ttl),
            Says::NxDomain => (3, [].as_slice(), 0),
            Says::ServFail => (2, [].as_slice(), 0),
            Says::Silence => return None,
        };
        let of_kind = |ip: &&IpAddr| self.kind == if ip.is_ipv4() { A } else { AAAA };
        let addresses: Vec<&IpAddr> = addresses.iter().filter(of_kind).collect();
        let count = u16::try_from(addresses.len()).expect("few");
        // A response, authoritative, recursion available; one question.
        let mut out =
            [&self.id[..], &[0x85, 0x80 | code, 0, 1], &count.to_be_bytes(), &[0; 4], &self.bytes].concat();
        for ip in addresses {
            let data = match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            // The name is that of the question, at byte 12.
            out.extend([0xc0, 12]);
            out.extend(self.kind.to_be_bytes());
            out.extend([0, 1]);
            out.extend(ttl.to_be_bytes());
            out.extend([0, u8::try_from(data.len()).expect("short")]);
            out.extend(data);
        }
        Some(out)
    }
}
