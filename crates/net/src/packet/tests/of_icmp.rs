//! Errors that the guest is told, and echoes.

use super::*;

#[test]
fn an_error_quotes_the_packet_that_it_is_about() {
    for (six, problem, begin) in [
        (false, Problem::Port, [3, 3]),
        (false, Problem::Network, [3, 0]),
        (false, Problem::Host, [3, 1]),
        (false, Problem::TooBig(1400), [3, 4]),
        (false, Problem::Prohibited, [3, 13]),
        (false, Problem::Hops, [11, 0]),
        (true, Problem::Port, [1, 4]),
        (true, Problem::Host, [1, 3]),
        (true, Problem::TooBig(1400), [2, 0]),
        (true, Problem::Hops, [3, 0]),
    ] {
        let message = udp_message(pair(six), &[0; 2000]);
        let about =
            Datagram { pair: pair(six), protocol: 17, hops: 64, identification: 7, message: &message };
        let about = about.to_vec().unwrap();
        let from: IpAddr = if six { GATEWAY6.into() } else { GATEWAY.into() };
        let error = icmp::error(from, &about, problem).unwrap();
        let packet = IpPacket::parse(&error).unwrap();
        let back = Pair::new(packet.source, packet.destination).unwrap();
        assert_eq!(packet.payload[..2], begin);
        assert_eq!(packet.bytes.len(), if six { 1280 } else { 576 });
        let Ok(icmp::Message::Error(quoted)) = icmp::parse(back, packet.payload) else { panic!() };
        assert_eq!(quoted, &about[..quoted.len()]);
        let (source, destination) = icmp::quoted_udp(quoted).unwrap();
        assert_eq!((source.port(), destination.port()), (4000, 53));
        // Errors about errors would go on for ever.
        assert_eq!(icmp::error(packet.destination, &error, Problem::Port), None);
    }
}

#[test]
fn the_mtu_stands_where_the_sender_looks_for_it() {
    for six in [false, true] {
        let message = udp_message(pair(six), &[0; 20]);
        let about =
            Datagram { pair: pair(six), protocol: 17, hops: 64, identification: 7, message: &message };
        let from: IpAddr = if six { GATEWAY6.into() } else { GATEWAY.into() };
        let error = icmp::error(from, &about.to_vec().unwrap(), Problem::TooBig(1400)).unwrap();
        let payload = IpPacket::parse(&error).unwrap().payload;
        assert_eq!(payload[4..8], 1400_u32.to_be_bytes());
    }
}

#[test]
fn groups_nobody_and_later_fragments_hear_of_no_error() {
    let to_group = Pair::V4(GUEST, Ipv4Addr::new(224, 0, 0, 251));
    let message = udp_message(pair(false), &[0; 20]);
    let about = |pair| {
        Datagram { pair, protocol: 17, hops: 64, identification: 7, message: &message }.to_vec().unwrap()
    };
    assert_eq!(icmp::error(GATEWAY.into(), &about(to_group), Problem::Port), None);
    let from_nobody = Pair::V4(Ipv4Addr::UNSPECIFIED, GATEWAY);
    assert_eq!(icmp::error(GATEWAY.into(), &about(from_nobody), Problem::Port), None);
    let mut later = about(pair(false));
    later[7] = 1;
    assert_eq!(icmp::error(GATEWAY.into(), &later, Problem::Port), None);
}

#[test]
fn an_error_about_a_datagram_that_is_gone_names_its_ends_and_length() {
    for six in [false, true] {
        let (source, destination): (IpAddr, IpAddr) =
            if six { (GUEST6.into(), HOST6.into()) } else { (GUEST.into(), HOST.into()) };
        let sent = (SocketAddr::new(source, 5000), SocketAddr::new(destination, 9));
        let error = icmp::udp_error(destination, sent, 3000, b"begin", Problem::Port).unwrap();
        let packet = IpPacket::parse(&error).unwrap();
        let back = Pair::new(packet.source, packet.destination).unwrap();
        let Ok(icmp::Message::Error(quoted)) = icmp::parse(back, packet.payload) else { panic!() };
        assert_eq!(icmp::quoted_udp(quoted), Some(sent));
        let header = if six { 40 } else { 20 };
        assert_eq!(quoted[header + 4..header + 6], 3008_u16.to_be_bytes());
        assert_eq!(&quoted[header + 8..], b"begin");
    }
}

#[test]
fn an_echo_comes_back_as_it_was() {
    for six in [false, true] {
        let echo = icmp::Echo { identifier: 77, sequence: 3, data: b"abcdefgh" };
        let message = icmp::request(pair(six), echo);
        assert_eq!(icmp::parse(pair(six), &message), Ok(icmp::Message::Request(echo)));
        assert_eq!(icmp::parse(pair(six), &icmp::reply(pair(six), echo)), Ok(icmp::Message::Reply(echo)));
        let mut damaged = message;
        damaged[9] ^= 1;
        assert_eq!(icmp::parse(pair(six), &damaged), Err(Reason::BadChecksum));
    }
}
