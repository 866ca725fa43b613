//! Ping, traceroute and neighbours, asked by a real kernel on the guest's side.
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{SILENT, Setup, WORLD, WORLD6, run, until};
use dhow_model::egress::{Action, Policy};

/// Whether one echo of so many bytes comes back.
fn ping(net: &common::Net, options: &str, address: &str) -> bool {
    net.guest.try_sh(&format!("busybox ping -c 1 -W 3 {options} {address}")).status.success()
}

#[test]
fn the_gateway_and_the_hosts_alias_answer_themselves() {
    run(Setup::default(), async |net| {
        for address in ["198.19.68.1", "198.19.68.254", "fd64:686f:7700::1", "fd64:686f:7700::fe"] {
            for size in ["-s 0", "-s 56", "-s 60000"] {
                assert!(ping(net, size, address), "{address} {size}");
            }
        }
        assert!(ping(net, "", "fe80::64:68ff:fe6f:7701%eth0"));
        assert_eq!(net.metrics().flows_total["icmp"], 0);
    });
}

/// Issue 3: "ICMP echo where the host allows it": by ping sockets, and for root by raw ones.
#[test]
fn others_are_asked_by_the_host() {
    for range in ["1 0", "0 2147483647"] {
        run(Setup::default(), async |net| {
            net.host.sh(&format!("sysctl -qw net.ipv4.ping_group_range='{range}'"));
            for address in [WORLD.to_string(), WORLD6.to_owned()] {
                for size in ["-s 56", "-s 8000"] {
                    assert!(ping(net, size, &address), "{range}: {address} {size}");
                }
            }
            assert!(!ping(net, "-W 1", &SILENT.to_string()));
            assert!(net.metrics().flows["icmp"] > 0);
        });
    }
}

#[test]
fn hops_are_counted_and_nobody_passes_for_another() {
    run(Setup::default(), async |net| {
        let answer = net.guest.try_sh(&format!("busybox ping -c 1 -W 1 -t 1 {WORLD}"));
        assert!(!answer.status.success());
        let path = net.guest.sh(&format!("busybox traceroute -n -q 1 -w 2 -m 4 {WORLD}"));
        let hops: Vec<_> = path.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, ["198.19.68.1", "203.0.113.1"], "{path}");
        let path = net.guest.sh(&format!("busybox traceroute -I -n -q 1 -w 2 -m 4 {WORLD}"));
        assert!(path.contains("198.19.68.1") && path.contains("203.0.113.1"), "{path}");
    });
}

#[test]
fn unused_addresses_of_the_link_have_nobody() {
    run(Setup::default(), async |net| {
        for address in ["198.19.68.77", "198.19.68.255"] {
            assert!(!ping(net, "-W 1", address), "{address}");
        }
        net.guest.sh("busybox arping -q -D -c 1 -w 2 -I eth0 198.19.68.2 || test $? = 0");
    });
}

/// 12.4.
#[test]
fn the_policy_judges_echo_requests() {
    let policy = Policy { default: Action::Deny, ..Policy::default() };
    run(Setup { policy, ..Setup::default() }, async |net| {
        assert!(!ping(net, "-W 1", &WORLD.to_string()));
        assert_eq!(net.drops("denied"), 1);
        assert!(ping(net, "", "198.19.68.1"), "the gateway is no destination");
    });
}

/// A flood of requests is cut, and the gateway goes on.
#[test]
fn a_flood_is_cut() {
    run(Setup::default(), async |net| {
        net.guest.try_sh(&format!(
            "for n in 1 2 3; do timeout 2 busybox ping -q -A -i 0.001 -c 2000 -W 1 {WORLD} & done; wait"
        ));
        assert!(net.metrics().flows["icmp"] <= 128);
        assert!(ping(net, "", "198.19.68.1"));
    });
}

/// A foreign guest that asks for routers gets one, and no address that is not its own.
#[test]
fn a_router_is_advertised_to_who_asks() {
    run(Setup::default(), async |net| {
        for command in [
            "ip -6 addr flush dev eth0 scope global",
            "ip -6 route flush dev eth0",
            "sysctl -qw net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.eth0.router_solicitation_delay=0",
            "ip link set eth0 down",
            "ip link set eth0 up",
        ] {
            net.guest.sh(command);
        }
        until("the guest has a default route", Duration::from_secs(10), || {
            net.guest.sh("ip -6 route").contains("default via fe80::64:68ff:fe6f:7701")
        })
        .await;
        assert!(!net.guest.sh("ip -6 addr show dev eth0").contains("fd64:"));
        assert!(net.guest.sh("ip -6 route").contains("fd64:686f:7700::/64"));
    });
}
