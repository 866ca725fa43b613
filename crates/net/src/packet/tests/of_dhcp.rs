//! The one lease.

use super::*;

pub(super) fn request(kind: u8, client: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[4..8].copy_from_slice(&[1, 2, 3, 4]);
    message[12..16].copy_from_slice(&client.octets());
    message[28..34].copy_from_slice(&GUEST_MAC);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(&[53, 1, kind]);
    for (code, value) in options {
        message.extend_from_slice(&[*code, value.len() as u8]);
        message.extend_from_slice(value);
    }
    message.push(255);
    message
}

fn option(message: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut options = &message[240..];
    while options[0] != 255 {
        let (head, rest) = options.split_at(2);
        let (value, rest) = rest.split_at(usize::from(head[1]));
        if head[0] == code {
            return Some(value.to_vec());
        }
        options = rest;
    }
    None
}

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn a_discovery_is_offered_the_one_lease() {
    let reply = dhcp::answer(&request(1, NOBODY, &[])).unwrap();
    assert_eq!((reply.to, reply.payload.len() >= 300), (GUEST, true));
    assert_eq!(reply.payload[4..8], [1, 2, 3, 4]);
    assert_eq!(reply.payload[16..20], GUEST.octets());
    assert_eq!(reply.payload[28..34], GUEST_MAC);
    for (code, value) in [
        (53, vec![2]),
        (54, GATEWAY.octets().to_vec()),
        (1, vec![255, 255, 255, 0]),
        (3, GATEWAY.octets().to_vec()),
        (6, GATEWAY.octets().to_vec()),
        (15, b"dhow.internal".to_vec()),
        (26, vec![0xff, 0xf0]),
        (28, vec![198, 19, 68, 255]),
        (51, vec![0, 1, 0x51, 0x80]),
    ] {
        assert_eq!(option(&reply.payload, code), Some(value), "option {code}");
    }
}

#[test]
fn a_request_is_acknowledged_or_refused_by_the_address_it_wants() {
    let (ours, theirs) = (GATEWAY.octets(), [10, 0, 0, 1]);
    let guest = GUEST.octets();
    let kind = |message: &[u8]| dhcp::answer(message).map(|reply| option(&reply.payload, 53).unwrap()[0]);
    assert_eq!(kind(&request(3, NOBODY, &[(50, &guest), (54, &ours)])), Some(5));
    assert_eq!(kind(&request(3, GUEST, &[])), Some(5));
    assert_eq!(kind(&request(3, NOBODY, &[(50, &theirs)])), Some(6));
    assert_eq!(kind(&request(3, NOBODY, &[(50, &guest), (54, &theirs)])), None, "another server's");
    assert_eq!(kind(&request(3, NOBODY, &[])), None, "no address at all");
}

#[test]
fn who_cannot_take_packets_yet_is_told_by_broadcast() {
    let mut message = request(1, NOBODY, &[]);
    message[10] = 0x80;
    assert_eq!(dhcp::answer(&message).unwrap().to, Ipv4Addr::BROADCAST);
    assert_eq!(dhcp::answer(&request(3, NOBODY, &[(50, &[10, 0, 0, 1])])).unwrap().to, Ipv4Addr::BROADCAST);
}

#[test]
fn to_inform_gives_options_but_no_lease_and_a_release_no_answer() {
    let reply = dhcp::answer(&request(8, GUEST, &[])).unwrap();
    assert_eq!((&reply.payload[16..20], option(&reply.payload, 51)), (&[0, 0, 0, 0][..], None));
    assert!(option(&reply.payload, 6).is_some());
    assert_eq!(dhcp::answer(&request(7, GUEST, &[])), None);
}

#[test]
fn relays_replies_and_options_cut_short_are_not_answered() {
    let mut relayed = request(1, NOBODY, &[]);
    relayed[24] = 10;
    assert_eq!(dhcp::answer(&relayed), None);
    let mut reply = request(1, NOBODY, &[]);
    reply[0] = 2;
    assert_eq!(dhcp::answer(&reply), None);
    let mut short = request(1, NOBODY, &[(12, b"name")]);
    short.truncate(short.len() - 3);
    assert_eq!(dhcp::answer(&short), None);
}
