//! A name server that does what a test tells it, and questions to ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::names::{Container, Names};
use super::resolv::Settings;
use super::server::{Dns, From, Over};
use super::{Open, Upstreams};

/// What the server does with one question.
pub(crate) enum Deed {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits before it goes on.
    Wait(Duration),
}

/// A script: the question, how it came, and how many came before it.
type Script = dyn Fn(&Message, Over, usize) -> Vec<Deed> + Send + Sync;

/// A scripted name server; it ends with its owner.
pub(crate) struct Upstream {
    /// Where it listens, UDP and TCP.
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// How many questions came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Listens on a free port of 127.0.0.1.
    pub(crate) async fn start(
        script: impl Fn(&Message, Over, usize) -> Vec<Deed> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// Listens there.
    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Message, Over, usize) -> Vec<Deed> + Send + Sync + 'static,
    ) -> Self {
        let tcp = TcpListener::bind(address).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let script: Arc<Script> = Arc::new(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(udp, Arc::clone(&script), Arc::clone(&asked)));
        tasks.spawn(streams(tcp, script, Arc::clone(&asked)));
        Self { address, asked, _tasks: tasks }
    }
}

async fn datagrams(socket: UdpSocket, script: Arc<Script>, asked: Arc<AtomicUsize>) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 4096];
    let mut answers = JoinSet::new();
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        let deeds = script(
            &Message::from_vec(&buffer[..length]).unwrap(),
            Over::Udp,
            asked.fetch_add(1, Ordering::SeqCst),
        );
        let socket = Arc::clone(&socket);
        answers.spawn(async move {
            for deed in deeds {
                match deed {
                    Deed::Send(bytes) => {
                        socket.send_to(&bytes, client).await.unwrap();
                    }
                    Deed::Wait(time) => tokio::time::sleep(time).await,
                }
            }
        });
    }
}

async fn streams(listener: TcpListener, script: Arc<Script>, asked: Arc<AtomicUsize>) {
    let mut clients = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
        clients.spawn(async move {
            let Ok(length) = stream.read_u16().await else { return };
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await.unwrap();
            let question = Message::from_vec(&bytes).unwrap();
            for deed in script(&question, Over::Tcp, asked.fetch_add(1, Ordering::SeqCst)) {
                match deed {
                    Deed::Send(bytes) => {
                        stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                        stream.write_all(&bytes).await.unwrap();
                    }
                    Deed::Wait(time) => tokio::time::sleep(time).await,
                }
            }
        });
    }
}

/// A message that answers `question`.
pub(crate) fn response(question: &Message) -> Message {
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_available = true;
    message.queries = question.queries.clone();
    if question.edns.is_some() {
        message.set_edns(Edns::new());
    }
    message
}

/// A message that answers `question` with these addresses.
pub(crate) fn with(question: &Message, addresses: &[IpAddr]) -> Message {
    let mut message = response(question);
    for address in addresses {
        let data = match address {
            IpAddr::V4(a) => RData::A(rdata::A(*a)),
            IpAddr::V6(a) => RData::AAAA(rdata::AAAA(*a)),
        };
        message.add_answer(Record::from_rdata(question.queries[0].name().clone(), 60, data));
    }
    message
}

/// One address, the usual answer.
pub(crate) fn address(question: &Message, last: u8) -> Vec<u8> {
    with(question, &[[192, 0, 2, last].into()]).to_vec().unwrap()
}

/// The message with this RCODE.
pub(crate) fn failing(question: &Message, code: ResponseCode) -> Vec<u8> {
    let mut message = response(question);
    message.metadata.response_code = code;
    message.to_vec().unwrap()
}

/// A question.
pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Impatient settings for these servers.
pub(crate) fn settings(servers: &[SocketAddr]) -> Settings {
    Settings { servers: servers.to_vec(), timeout: Duration::from_millis(500), attempts: 2, tcp: false }
}

/// A resolver with two containers in front of these servers.
pub(crate) fn dns(servers: &[SocketAddr]) -> Arc<Dns> {
    Dns::new(names(), Upstreams::with(None, 53, settings(servers)), Arc::new(Open))
}

/// The names `db` (172.17.0.2, fd00::2) and `web.shop` (172.18.0.2 and .3).
pub(crate) fn names() -> Arc<Names> {
    let names = Names::new();
    let web = |n: u8| Container {
        id: n.to_string(),
        name: format!("shop-web-{n}"),
        project: Some("shop".to_owned()),
        service: Some("web".to_owned()),
        addresses: vec![[172, 18, 0, n].into()],
        ..Container::default()
    };
    let db = Container {
        id: "1".to_owned(),
        name: "db".to_owned(),
        addresses: vec!["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        ..Container::default()
    };
    names.replace(vec![db, web(2), web(3)]);
    names
}

/// Asks as the guest does, over UDP.
pub(crate) async fn ask(dns: &Arc<Dns>, name: &str, kind: RecordType) -> Message {
    ask_with(dns, &query(name, kind)).await
}

/// Asks this as the guest does, over UDP.
pub(crate) async fn ask_with(dns: &Arc<Dns>, query: &Message) -> Message {
    let answer = dns.answer(&query.to_vec().unwrap(), From::Guest, Over::Udp).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

/// The A records of an answer, their last byte.
pub(crate) fn last_bytes(message: &Message) -> Vec<u8> {
    let last = |record: &Record| match &record.data {
        RData::A(a) => Some(a.octets()[3]),
        _ => None,
    };
    message.answers.iter().filter_map(last).collect()
}
