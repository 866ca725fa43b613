//! Bytes of no meaning: nothing panics, and what is answered is well-formed.

use super::*;

proptest! {
    #[test]
    fn no_frame_is_a_panic_and_every_answer_is_for_the_gateway(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400), shape in 0..4
    ) {
        let put = |bytes: &mut Vec<u8>, at: usize, what: &[u8]| {
            if bytes.len() >= at + what.len() {
                bytes[at..at + what.len()].copy_from_slice(what);
            }
        };
        match shape {
            1 => put(&mut bytes, 12, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]),
            2 => {
                put(&mut bytes, 0, &[0x60]);
                put(&mut bytes, 6, &[58, 255]);
                put(&mut bytes, 40, &[135, 0]);
            }
            3 => {
                put(&mut bytes, 0, &[1, 1, 6]);
                put(&mut bytes, 24, &[0; 4]);
                put(&mut bytes, 236, &[0x63, 0x82, 0x53, 0x63, 53, 1, 1]);
            }
            _ => {}
        }
        let _frame = ethernet::Frame::parse(&bytes);
        if let Some(reply) = arp::answer(&bytes) {
            prop_assert!(crate::packet::is_ours(Ipv4Addr::new(reply[28], reply[29], reply[30], reply[31]).into()));
        }
        if let Some(reply) = ndp::answer(&bytes) {
            prop_assert!(crate::packet::is_ours(IpPacket::parse(&reply).unwrap().source));
        }
        if let Some(reply) = dhcp::answer(&bytes) {
            prop_assert!(reply.payload.len() >= 300);
        }
        for six in [false, true] {
            let _datagram = udp::Udp::parse(&bytes);
            let _message = icmp::parse(pair(six), &bytes);
            let from: IpAddr = if six { GATEWAY6.into() } else { GATEWAY.into() };
            if let Some(error) = icmp::error(from, &bytes, Problem::Port) {
                prop_assert!(IpPacket::parse(&error).unwrap().payload.len() <= 1240);
            }
        }
        let _quoted = (icmp::quoted_udp(&bytes), icmp::quoted_tcp(&bytes));
    }

    /// NDP's checksum stands in the way of random bytes, so it is put right here.
    #[test]
    fn no_neighbour_message_is_a_panic(
        kind in 130_u8..140, body in prop::collection::vec(any::<u8>(), 0..80), ours: bool, multicast: bool
    ) {
        let target = if ours { GATEWAY6 } else { GUEST6 };
        let destination = if multicast { "ff02::2".parse().unwrap() } else { target };
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&target.octets());
        message.extend_from_slice(&body);
        let pair = Pair::V6(GUEST6, destination);
        let sum = pair.checksum(58, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet = Datagram { pair, protocol: 58, hops: 255, identification: 0, message: &message }.to_vec().unwrap();
        if let Some(answer) = ndp::answer(&packet) {
            let answer = IpPacket::parse(&answer).unwrap();
            prop_assert!(crate::packet::is_ours(answer.source));
        }
    }

    #[test]
    fn no_dhcp_options_are_a_panic(kind: u8, options in prop::collection::vec((1_u8..255, prop::collection::vec(any::<u8>(), 0..20)), 0..10)) {
        let options: Vec<(u8, &[u8])> = options.iter().map(|(code, value)| (*code, &value[..])).collect();
        let message = super::of_dhcp::request(kind, GUEST, &options);
        if let Some(reply) = dhcp::answer(&message) {
            prop_assert_eq!(reply.payload[0], 2);
        }
    }
}
