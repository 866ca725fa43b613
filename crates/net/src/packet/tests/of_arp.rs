//! Whom the gateway answers for on IPv4, and for whom it stays silent.

use super::*;

fn request(target: Ipv4Addr, sender: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&GUEST_MAC);
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&GUEST_MAC);
    frame.extend_from_slice(&sender.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&target.octets());
    frame.extend_from_slice(&[0; 18]);
    frame
}

#[test]
fn the_gateway_has_its_own_addresses() {
    for address in [GATEWAY, HOST, HOST_INTERFACE] {
        let reply = arp::answer(&request(address, GUEST)).unwrap();
        assert_eq!(reply[..6], GUEST_MAC);
        assert_eq!(reply[6..12], GATEWAY_MAC);
        assert_eq!(reply[20..22], [0, 2]);
        assert_eq!(reply[22..28], GATEWAY_MAC);
        assert_eq!(reply[28..32], address.octets());
        assert_eq!(reply[32..38], GUEST_MAC);
        assert_eq!(reply[38..], GUEST.octets());
    }
}

#[test]
fn nobody_has_the_guests_address_or_a_free_one() {
    for target in [GUEST, Ipv4Addr::new(198, 19, 68, 77), Ipv4Addr::BROADCAST, Ipv4Addr::new(8, 8, 8, 8)] {
        assert_eq!(arp::answer(&request(target, Ipv4Addr::UNSPECIFIED)), None);
    }
}

#[test]
fn replies_and_group_senders_are_not_answered() {
    let mut reply = request(GATEWAY, GUEST);
    reply[21] = 2;
    assert_eq!(arp::answer(&reply), None);
    let mut group = request(GATEWAY, GUEST);
    group[6] |= 1;
    assert_eq!(arp::answer(&group), None);
    let mut group = request(GATEWAY, GUEST);
    group[22] |= 1;
    assert_eq!(arp::answer(&group), None);
}
