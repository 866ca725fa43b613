use tokio::io::AsyncBufReadExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

/// A kernel on which a container lives, and another does not.
struct Fake;

impl Kernel for Fake {
    fn cables(&self) -> std::collections::BTreeSet<String> {
        ["veth1".to_owned()].into()
    }

    fn has_loose_cable(&self) -> bool {
        false
    }

    fn addresses(&self) -> std::collections::BTreeSet<IpAddr> {
        [[172, 17, 0, 2].into()].into()
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy's end of the conversation. Its parent, as the agent sees it, is what runs this test, which lives.
struct Proxy(BufReader<UnixStream>);

impl Proxy {
    async fn ask(socket: &Path, line: &str) -> Self {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    async fn hears(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap().unwrap();
        line
    }
}

/// The host's end.
struct Host {
    answers: mpsc::Sender<Result<PortsAnswer, Status>>,
    requests: Requests,
}

impl Host {
    async fn come(ports: &Ports) -> Self {
        let (answers, stream) = mpsc::channel(16);
        let requests = ports.host(ReceiverStream::new(stream)).await;
        Self { answers, requests }
    }

    async fn hears(&mut self) -> proto::ports_request::What {
        timeout(PATIENCE, self.requests.recv()).await.unwrap().unwrap().unwrap().what.unwrap()
    }

    async fn hears_bind(&mut self) -> PortBinding {
        match self.hears().await {
            proto::ports_request::What::Bind(binding) => binding,
            other => panic!("{other:?}"),
        }
    }

    async fn says(&self, id: Id, what: proto::ports_answer::What) {
        self.answers.send(Ok(PortsAnswer { id, what: Some(what) })).await.unwrap();
    }
}

fn held(ids: &[Id], what: proto::ports_request::What) -> bool {
    match what {
        proto::ports_request::What::Held(held) => {
            held.bindings.iter().map(|b| b.id).collect::<Vec<_>>() == ids
        }
        _ => false,
    }
}

const BIND: &str = "bind tcp [::1]:8080 172.17.0.2:80\n";

/// Ports that listen, and a host that has come and been told that nothing is held.
async fn stage() -> (tempfile::TempDir, std::path::PathBuf, Ports, Host) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ports.sock");
    let ports = Ports::start_on(Fake);
    ports.listen_at(&socket).unwrap();
    let mut host = Host::come(&ports).await;
    assert!(held(&[], host.hears().await));
    (directory, socket, ports, host)
}

/// Spec 4.1 and 4.7: bound before the container starts, released before its stop is answered.
#[tokio::test]
async fn a_port_is_bound_and_released_at_the_hosts_word() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ports.sock");
    let ports = Ports::start_on(Fake);
    ports.listen_at(&socket).unwrap();
    let mut proxy = Proxy::ask(&socket, BIND).await;
    let mut host = Host::come(&ports).await;
    assert!(held(&[], host.hears().await));
    let binding = host.hears_bind().await;
    assert_eq!((binding.host_address.as_str(), binding.host_port), ("::1", 8080));
    assert_eq!((binding.container_address.as_str(), binding.container_port), ("172.17.0.2", 80));
    host.says(binding.id, proto::ports_answer::What::Bound(proto::PortBound {})).await;
    assert_eq!(proxy.hears().await, "bound\n");
    proxy.0.write_all(b"release\n").await.unwrap();
    assert!(matches!(host.hears().await, proto::ports_request::What::Release(r) if r.id == binding.id));
    host.says(binding.id, proto::ports_answer::What::Released(proto::PortReleased {})).await;
    assert_eq!(proxy.hears().await, "released\n");
}

/// Spec 4.1: what was bound is released when the one who asked has given up.
#[tokio::test]
async fn a_proxy_that_is_killed_while_its_dockerd_lives_is_released() {
    let (_directory, socket, _ports, mut host) = stage().await;
    let proxy = Proxy::ask(&socket, BIND).await;
    let id = host.hears_bind().await.id;
    drop(proxy);
    assert!(matches!(host.hears().await, proto::ports_request::What::Release(r) if r.id == id));
}

/// Spec 4.4: reconciled after every reconnect.
#[tokio::test]
async fn a_host_that_comes_back_is_told_what_is_held() {
    let (_directory, socket, ports, mut host) = stage().await;
    let mut proxy = Proxy::ask(&socket, BIND).await;
    let id = host.hears_bind().await.id;
    host.says(id, proto::ports_answer::What::Bound(proto::PortBound {})).await;
    assert_eq!(proxy.hears().await, "bound\n");
    let mut again = Host::come(&ports).await;
    assert!(held(&[id], again.hears().await));
    assert!(timeout(PATIENCE, host.requests.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_reaches_the_proxy_in_the_hosts_words() {
    let (_directory, socket, _ports, mut host) = stage().await;
    let mut proxy = Proxy::ask(&socket, BIND).await;
    let id = host.hears_bind().await.id;
    let text = "listen tcp6 [::1]:8080: bind: address already in use".to_owned();
    let refused = proto::PortRefused { kind: "in-use".to_owned(), text: text.clone() };
    host.says(id, proto::ports_answer::What::Refused(refused)).await;
    assert_eq!(proxy.hears().await, format!("refused {text}\n"));
}

/// Issue 3: dockerd claims again what it published for a container that is no more, and would keep it for ever.
#[tokio::test]
async fn what_is_left_over_of_a_dead_container_is_refused_until_a_dockerd_answers() {
    let (_directory, socket, ports, mut host) = stage().await;
    let dead = "bind tcp [::1]:8081 172.17.0.3:80\n";
    let mut proxy = Proxy::ask(&socket, dead).await;
    assert_eq!(proxy.hears().await, format!("refused {LEFT_OVER}\n"));
    drop(proxy);
    let _lives = Proxy::ask(&socket, BIND).await;
    assert_eq!(host.hears_bind().await.host_port, 8080);
    ports.engine_answers(1).await;
    let _starts = Proxy::ask(&socket, dead).await;
    assert_eq!(host.hears_bind().await.host_port, 8081);
}

/// Issue 3: what no running container lists goes, its proxy as well, and the host hears why.
#[tokio::test]
async fn what_dockerd_does_not_list_is_released() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ports.sock");
    let ports = Ports::start_on(Fake);
    ports.engine_answers(1).await;
    ports.listen_at(&socket).unwrap();
    let mut host = Host::come(&ports).await;
    assert!(held(&[], host.hears().await));
    // Somebody else's process speaks for it: the proxy is killed, and this is the test's own.
    let mut other = std::process::Command::new("socat")
        .arg("-")
        .arg(format!("UNIX-CONNECT:{}", socket.display()))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let unlisted = "bind tcp [::1]:8080 172.17.0.3:80\n";
    std::io::Write::write_all(other.stdin.as_mut().unwrap(), unlisted.as_bytes()).unwrap();
    let id = host.hears_bind().await.id;
    host.says(id, proto::ports_answer::What::Bound(proto::PortBound {})).await;
    let due = async {
        ports.listed(List::default(), Instant::now()).await;
        // The last list was just given, so another one is wanted only because of what is bound.
        while !ports.is_due().await {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, due).await.unwrap();
    for after in [1, 2, 3] {
        ports.listed(List::default(), Instant::now() + after * reconcile::GRACE).await;
    }
    match host.hears().await {
        proto::ports_request::What::Release(release) => {
            assert_eq!((release.id, &*release.why), (id, UNLISTED))
        }
        other => panic!("{other:?}"),
    }
    assert!(!tokio::task::spawn_blocking(move || other.wait()).await.unwrap().unwrap().success());
}

#[test]
fn a_parent_is_found_whatever_its_child_is_called() {
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
    assert_eq!(parent_of(i32::try_from(std::process::id()).unwrap()), Some(parent));
    assert_eq!(parent_of(-1), None);
}
