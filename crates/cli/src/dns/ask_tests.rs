use super::*;

/// A server that answers each datagram with its question, changed.
fn echo(udp: std::net::UdpSocket, change: impl Fn(&mut Vec<u8>) + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            change(&mut answer);
            udp.send_to(&answer, client).unwrap();
        }
    });
}

/// And the same over TCP.
fn echo_stream(tcp: std::net::TcpListener, change: impl Fn(&mut Vec<u8>) + Send + 'static) {
    use std::io::{Read as _, Write as _};
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).unwrap();
            change(&mut answer);
            // An earlier asker may have given up.
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).ok();
            stream.write_all(&answer).ok();
        }
    });
}

/// Answers as Dhow's engine `1234abcd` does.
fn as_dhow(answer: &mut Vec<u8>) {
    answer[2] |= 0x84;
    answer[7] = 1;
    let kind = answer[answer.len() - 3];
    answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1]);
    if kind == 16 {
        answer.extend([0, 16, 15]);
        answer.extend(b"engine=1234abcd");
    } else {
        answer.extend([0, 4, 127, 0, 0, 1]);
    }
}

fn listeners() -> (std::net::TcpListener, std::net::UdpSocket, std::net::SocketAddr) {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    (tcp, std::net::UdpSocket::bind(address).unwrap(), address)
}

#[test]
fn a_port_is_asked_for_what_it_says_and_not_just_whether_it_listens() {
    let limit = std::time::Duration::from_millis(300);
    let (tcp, udp, address) = listeners();
    let found = |engine| {
        let answer = port(address, engine, limit);
        (answer.works, answer.found)
    };
    let silent = found("1234abcd");
    assert!(!silent.0 && silent.1.contains("over UDP: not in time"), "{silent:?}");
    drop(udp);
    let nobody = found("1234abcd");
    assert!(!nobody.0 && nobody.1.contains("over UDP: nobody listens there"), "{nobody:?}");
    echo(std::net::UdpSocket::bind(address).unwrap(), as_dhow);
    let half = found("1234abcd");
    assert!(!half.0 && half.1.contains("over TCP: not in time"), "{half:?}");
    echo_stream(tcp, as_dhow);
    assert_eq!(found("1234abcd"), (true, format!("{address} answers")));
    let other = found("99999999");
    assert!(!other.0 && other.1.contains("another engine's (1234abcd)"), "{other:?}");

    let (tcp, udp, address) = listeners();
    echo(udp, |_| {});
    echo_stream(tcp, |_| {});
    let stranger = port(address, "1234abcd", limit);
    assert!(!stranger.works && stranger.found.contains("is not Dhow"), "{stranger:?}");
}
