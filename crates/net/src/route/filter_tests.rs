use super::*;
use proptest::prelude::*;

const CONTAINER: &str = "172.18.0.2";
const CONTAINER6: &str = "fd00:18::2";
const HOST: &str = "198.19.68.253";
const HOST6: &str = "fd64:686f:7700::fd";

fn filter() -> Filter {
    let mut filter = Filter::default();
    filter.set_networks(vec!["172.18.0.0/16".parse().unwrap(), "fd00:18::/64".parse().unwrap()]);
    filter
}

/// Source, destination, protocol, payload, and what is to become of it.
type Row<'a> = (&'a str, &'a str, u8, &'a [u8], Result<(), Reason>);

fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut bytes = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            bytes[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            [&bytes[..], &source.octets(), &destination.octets(), payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut bytes = [0x60, 0, 0, 0, 0, 0, protocol, 64];
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            [&bytes[..], &source.octets(), &destination.octets(), payload].concat()
        }
        _ => panic!("two families"),
    }
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[12..14].copy_from_slice(&[0x50, flags]);
    segment
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    [source, destination, 8, 0].map(u16::to_be_bytes).concat()
}

fn error(kind: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat()
}

fn out(filter: &mut Filter, bytes: &[u8]) -> Result<(), Reason> {
    filter.admit_to_guest(bytes, Instant::now())
}

fn back(filter: &Filter, bytes: &[u8]) -> Result<(), Reason> {
    filter.admit_to_host(&IpPacket::parse(bytes).unwrap(), Instant::now())
}

/// Issue 3, point 5: containers' own addresses are reachable from the host, and nothing else of the guest's is.
#[test]
fn the_host_sends_to_containers_only_and_as_itself_only() {
    let echo = [8, 0, 0, 0, 0, 1, 0, 1];
    let table: [Row<'_>; 13] = [
        (HOST, CONTAINER, 6, &tcp(SYN), Ok(())),
        (HOST, CONTAINER, 17, &udp(5000, 53), Ok(())),
        (HOST, CONTAINER, 1, &echo, Ok(())),
        (HOST6, CONTAINER6, 6, &tcp(SYN), Ok(())),
        (HOST6, CONTAINER6, 58, &[128, 0, 0, 0], Ok(())),
        (HOST, "172.19.0.2", 6, &tcp(SYN), Err(Reason::NotOnThisWay)),
        (HOST, "198.19.68.2", 6, &tcp(SYN), Err(Reason::NotOnThisWay)),
        ("192.168.1.7", CONTAINER, 6, &tcp(SYN), Err(Reason::NotOnThisWay)),
        ("fe80::1", "ff02::2", 58, &[133, 0, 0, 0], Err(Reason::NotOnThisWay)),
        (HOST, CONTAINER, 1, &[13, 0, 0, 0], Err(Reason::Unsupported)),
        (HOST6, CONTAINER6, 58, &[135, 0, 0, 0], Err(Reason::Unsupported)),
        (HOST, CONTAINER, 132, &[0; 12], Err(Reason::Unsupported)),
        (HOST, CONTAINER, 17, &[0; 7], Err(Reason::Malformed)),
    ];
    for (source, destination, protocol, payload, expected) in table {
        let verdict = out(&mut filter(), &packet(source, destination, protocol, payload));
        assert_eq!(verdict, expected, "{source} to {destination}, {protocol}");
    }
}

/// Issue 3, point 5: the guest answers and never asks. What leaves the device reaches every service of the host.
#[test]
fn the_guest_sends_answers_only() {
    let ours = packet(HOST, CONTAINER, 17, &udp(5000, 53));
    let ours6 = packet(HOST6, CONTAINER6, 17, &udp(5000, 53));
    let elsewhere = packet(HOST, "192.0.2.1", 1, &[8, 0, 0, 0]);
    let theirs = packet(CONTAINER, HOST, 17, &udp(53, 5000));
    let table: [Row<'_>; 24] = [
        (CONTAINER, HOST, 6, &tcp(SYN | ACK), Ok(())),
        (CONTAINER, HOST, 6, &tcp(ACK), Ok(())),
        (CONTAINER, HOST, 6, &tcp(0x04), Ok(())),
        (CONTAINER6, HOST6, 6, &tcp(SYN | ACK), Ok(())),
        (CONTAINER, HOST, 6, &tcp(SYN), Err(Reason::NewConnection)),
        // With FIN, PSH, ECN's bits it is a SYN as well.
        (CONTAINER, HOST, 6, &tcp(SYN | 0xc9), Err(Reason::NewConnection)),
        (CONTAINER6, HOST6, 6, &tcp(SYN), Err(Reason::NewConnection)),
        (CONTAINER, HOST, 6, &[0; 12], Err(Reason::Malformed)),
        (CONTAINER, HOST, 17, &udp(53, 5000), Err(Reason::Unasked)),
        (CONTAINER, HOST, 1, &[0, 0, 0, 0], Ok(())),
        (CONTAINER6, HOST6, 58, &[129, 0, 0, 0], Ok(())),
        (CONTAINER, HOST, 1, &[8, 0, 0, 0], Err(Reason::Unsupported)),
        // A redirect, a router's and a neighbour's advertisement would change the host's own ways.
        (CONTAINER, HOST, 1, &error(5, &ours), Err(Reason::Unsupported)),
        (CONTAINER6, HOST6, 58, &[134, 0, 0, 0], Err(Reason::Unsupported)),
        (CONTAINER6, HOST6, 58, &[136, 0, 0, 0], Err(Reason::Unsupported)),
        ("198.19.68.2", HOST, 1, &error(3, &ours), Ok(())),
        (CONTAINER, HOST, 1, &error(11, &ours), Ok(())),
        ("fd64:686f:7700::2", HOST6, 58, &error(2, &ours6), Ok(())),
        // An error about a way that is not this one would change the host's idea of its packets' size.
        (CONTAINER, HOST, 1, &error(3, &elsewhere), Err(Reason::Unasked)),
        (CONTAINER, HOST, 1, &error(3, &theirs), Err(Reason::Unasked)),
        (CONTAINER, HOST, 1, &error(3, &ours[..19]), Err(Reason::Malformed)),
        ("10.9.9.9", HOST, 6, &tcp(ACK), Err(Reason::NotOnThisWay)),
        ("198.19.68.2", HOST, 6, &tcp(ACK), Err(Reason::NotOnThisWay)),
        (CONTAINER, "192.168.1.7", 6, &tcp(ACK), Err(Reason::NotOnThisWay)),
    ];
    for (source, destination, protocol, payload, expected) in table {
        let verdict = back(&filter(), &packet(source, destination, protocol, payload));
        assert_eq!(verdict, expected, "{source} to {destination}, {protocol} {payload:?}");
    }
}

#[test]
fn nothing_passes_in_pieces_or_with_options() {
    let mut fragment = packet(CONTAINER, HOST, 6, &tcp(ACK));
    fragment[6] = 0x20;
    let mut options = packet(CONTAINER, HOST, 6, &[&[131, 4, 4, 0][..], &tcp(ACK)].concat());
    options[0] = 0x46;
    let extension = packet(CONTAINER6, HOST6, 60, &[&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp(ACK)].concat());
    for bytes in [&fragment, &options, &extension] {
        assert_eq!(back(&filter(), bytes), Err(Reason::Unsupported));
    }
    for bytes in [&[][..], &[0x45; 19], &[0x60; 39], &[0x15; 60]] {
        assert_eq!(out(&mut filter(), bytes), Err(Reason::Malformed));
    }
}

#[test]
fn a_datagram_is_answered_by_whom_it_went_to_and_for_180_s() {
    let mut filter = filter();
    let now = Instant::now();
    filter.admit_to_guest(&packet(HOST, CONTAINER, 17, &udp(5000, 53)), now).unwrap();
    let at = |seconds| now + Duration::from_secs(seconds);
    let table = [
        (CONTAINER, udp(53, 5000), 0, Ok(())),
        (CONTAINER, udp(53, 5000), 180, Ok(())),
        (CONTAINER, udp(53, 5000), 181, Err(Reason::Unasked)),
        (CONTAINER, udp(54, 5000), 0, Err(Reason::Unasked)),
        (CONTAINER, udp(53, 5001), 0, Err(Reason::Unasked)),
        ("172.18.0.3", udp(53, 5000), 0, Err(Reason::Unasked)),
    ];
    for (source, payload, seconds, expected) in table {
        let bytes = packet(source, HOST, 17, &payload);
        let verdict = filter.admit_to_host(&IpPacket::parse(&bytes).unwrap(), at(seconds));
        assert_eq!(verdict, expected, "{source} {payload:?} after {seconds} s");
    }
}

#[test]
fn the_table_of_datagrams_is_bounded_and_keeps_the_latest() {
    let mut filter = filter();
    let now = Instant::now();
    for number in 0..u16::MAX {
        filter.admit_to_guest(&packet(HOST, CONTAINER, 17, &udp(number, 53)), now).unwrap();
    }
    assert!(filter.young.len() + filter.old.len() <= 2 * FLOWS);
    for number in u16::MAX - 8000..u16::MAX {
        assert_eq!(back(&filter, &packet(CONTAINER, HOST, 17, &udp(53, number))), Ok(()));
    }
}

proptest! {
    /// Input from a guest is hostile.
    #[test]
    fn no_packet_makes_it_panic(head in prop_oneof![Just(0x45_u8), Just(0x60)], rest in proptest::collection::vec(any::<u8>(), 0..100)) {
        let bytes = [&[head][..], &rest].concat();
        out(&mut filter(), &bytes).ok();
        if let Ok(packet) = IpPacket::parse(&bytes) {
            filter().admit_to_host(&packet, Instant::now()).ok();
        }
    }

    /// Whatever the guest sends, a bare SYN never passes.
    #[test]
    fn no_connection_is_ever_opened_by_the_guest(payload in proptest::collection::vec(any::<u8>(), 20..40), six in any::<bool>()) {
        let bytes = if six { packet(CONTAINER6, HOST6, 6, &payload) } else { packet(CONTAINER, HOST, 6, &payload) };
        prop_assert_eq!(back(&filter(), &bytes).is_ok(), payload[13] & 0x12 != 0x02);
    }
}
