//! What changed between the machine as it was made and the machine as the configuration asks (spec 6.4).

use std::fmt;

use crate::{MachineSpec, Size, config};

/// One field in which a machine differs from what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The field, as the configuration or the asset list calls it.
    pub field: &'static str,
    /// What the machine was made from.
    pub made: String,
    /// What is asked now.
    pub asked: String,
}

/// The data disk would have to shrink, which would lose data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data disk is {made} and cannot shrink to {asked}; set machine.disk to {made} or more")]
pub struct DiskWouldShrink {
    /// How large it is.
    pub made: Size,
    /// How large it is asked to be.
    pub asked: Size,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.field, self.made, self.asked)
    }
}

/// The fields in which `made` differs from `asked`; none if the machine is as asked. The data disk is never among what is
/// re-made: it is kept, and may grow.
///
/// # Errors
/// When the disk would shrink.
pub fn between(made: &MachineSpec, asked: &MachineSpec) -> Result<Vec<Drift>, DiskWouldShrink> {
    if asked.disk < made.disk {
        return Err(DiskWouldShrink { made: made.disk, asked: asked.disk });
    }
    let fields = made.fields().into_iter().zip(asked.fields());
    let drifted = fields.filter(|((_, made), (_, asked))| made != asked);
    Ok(drifted.map(|((field, made), (_, asked))| Drift { field, made, asked }).collect())
}

impl MachineSpec {
    /// Every field as text, in a fixed order. The patterns name each one, so that a new field cannot be forgotten here.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self {
            name,
            arch,
            accelerator,
            cpus,
            memory,
            disk,
            kernel,
            initrd,
            root,
            cmdline,
            channel,
            network,
            dns,
            shares,
        } = self;
        let config::Dns { port } = dns;
        let config::Network { host_loopback, publish_address, egress_default, egress } = network;
        let text = |value: Result<toml::Value, _>| value.map(|v| v.to_string()).unwrap_or_default();
        let channel = match channel {
            crate::ChannelKind::Vsock => "vsock",
            crate::ChannelKind::Serial => "serial",
        };
        vec![
            ("name", name.to_string()),
            ("architecture", arch.to_string()),
            ("accelerator", accelerator.to_string()),
            ("cpus", cpus.to_string()),
            ("memory", memory.to_string()),
            ("disk", disk.to_string()),
            ("kernel", kernel.path.display().to_string()),
            ("kernel digest", kernel.sha256.clone()),
            ("initrd", initrd.path.display().to_string()),
            ("initrd digest", initrd.sha256.clone()),
            ("root image", root.path.display().to_string()),
            ("root image digest", root.sha256.clone()),
            ("kernel command line", cmdline.clone()),
            ("channel", channel.to_owned()),
            ("network.host-loopback", host_loopback.to_string()),
            ("network.publish-address", publish_address.to_string()),
            ("network.egress-default", text(toml::Value::try_from(egress_default))),
            ("network.egress", text(toml::Value::try_from(egress))),
            ("dns.port", port.to_string()),
            ("shares", words(shares)),
        ]
    }
}

fn words(shares: &[config::Share]) -> String {
    let each = |share: &config::Share| format!("{} {}", share.path.display(), share.access);
    if shares.is_empty() { "none".to_owned() } else { shares.iter().map(each).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Accelerator, Arch, ChannelKind, Input, MachineName};

    const RULE: &str = "[[egress]]\naction = 'deny'\nto = 'private'";

    fn spec() -> MachineSpec {
        let input = |name: &str| Input { path: format!("/assets/{name}").into(), sha256: "0".repeat(64) };
        MachineSpec {
            name: MachineName::native(),
            arch: Arch::Amd64,
            accelerator: Accelerator::Kvm,
            cpus: 2,
            memory: Size::gib(2),
            disk: Size::gib(64),
            kernel: input("kernel"),
            initrd: input("initrd"),
            root: input("root"),
            cmdline: "quiet".to_owned(),
            channel: ChannelKind::Serial,
            network: config::Network::default(),
            dns: config::Dns::default(),
            shares: config::Shares::default().resolve(Some(std::path::Path::new("/home/u"))),
        }
    }

    /// Spec 6.4.
    #[test]
    fn each_field_that_changed_is_named_with_both_values_and_no_other() {
        type Change = fn(&mut MachineSpec);
        let table: [(&str, Change); 13] = [
            ("cpus", |s| s.cpus = 3),
            ("memory", |s| s.memory = Size::gib(3)),
            ("disk", |s| s.disk = Size::gib(65)),
            ("kernel", |s| s.kernel.path = "/other".into()),
            ("kernel command line", |s| s.cmdline.push_str(" debug")),
            ("root image digest", |s| s.root.sha256 = "1".repeat(64)),
            ("initrd digest", |s| s.initrd.sha256 = "1".repeat(64)),
            ("accelerator", |s| s.accelerator = Accelerator::Tcg),
            ("channel", |s| s.channel = ChannelKind::Vsock),
            ("network.host-loopback", |s| s.network.host_loopback = false),
            ("network.egress", |s| {
                s.network.egress = toml::from_str::<config::Network>(RULE).unwrap().egress
            }),
            ("dns.port", |s| s.dns.port = 0),
            ("shares", |s| s.shares[0].access = config::Access::ReadOnly),
        ];
        for (field, change) in table {
            let mut asked = spec();
            change(&mut asked);
            let drift = between(&spec(), &asked).unwrap();
            assert_eq!(drift.iter().map(|d| d.field).collect::<Vec<_>>(), [field]);
            assert_ne!(drift[0].made, drift[0].asked);
        }
        assert_eq!(between(&spec(), &spec()), Ok(vec![]));
    }

    #[test]
    fn a_disk_that_would_shrink_is_an_error_and_no_drift() {
        let asked = MachineSpec { disk: Size::gib(32), ..spec() };
        assert!(between(&spec(), &asked).unwrap_err().to_string().contains("cannot shrink"));
    }

    /// Spec 6.4: what concerns only foreign workloads is no reason to make the native machine anew. The sections are not
    /// fields of a machine at all; were one to become so, its words would show in the list of fields.
    #[test]
    fn placement_translators_and_the_foreign_machine_are_no_fields_of_a_machine() {
        let fields: Vec<&str> = spec().fields().into_iter().map(|(field, _)| field).collect();
        let sections = ["workloads", "translators", "foreign"];
        let named = |field: &&str| sections.iter().any(|section| field.contains(section));
        assert_eq!(fields.iter().find(|field| named(field)), None);
        for section in sections {
            assert!(config::Config::KEYS.iter().any(|key| key.name.starts_with(section)), "{section}");
        }
    }
}
