//! The boot configuration, which the hypervisor hands over as a firmware-config file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use dhow_model::BootConfig;

use crate::{Error, Result};

/// Where `qemu_fw_cfg` shows the host's file.
pub const PATH: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/dhow/boot/raw";
/// Far above what a configuration needs.
const LIMIT: u64 = 64 << 10;

/// Reads and checks the configuration.
pub fn read(path: &Path) -> Result<BootConfig> {
    let bad = |why: String| Error::Config { path: path.to_path_buf(), why };
    let file = File::open(path).map_err(|error| {
        bad(format!("{error}; the hypervisor was not given opt/dhow/boot, or qemu_fw_cfg is not loaded"))
    })?;
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text).map_err(|error| bad(error.to_string()))?;
    if text.len() as u64 > LIMIT {
        return Err(bad(format!("it is larger than {LIMIT} bytes")));
    }
    parse(&text).map_err(bad)
}

/// The configuration in `text`, or why it is none.
fn parse(text: &[u8]) -> Result<BootConfig, String> {
    let config: BootConfig = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !part.starts_with('-')
    };
    if config.hostname.len() > 63 || !config.hostname.split('.').all(label) {
        return Err(format!("{:?} is no host name", config.hostname));
    }
    if config.network.prefix > 32 {
        return Err(format!("a prefix of {} bits is longer than an address", config.network.prefix));
    }
    if config.network.six.as_ref().is_some_and(|six| six.prefix > 128) {
        return Err("an IPv6 prefix is longer than an address".to_owned());
    }
    // The least that IPv6 needs (RFC 8200, section 5).
    if !(1280..=65535).contains(&config.network.mtu) {
        return Err(format!("an MTU of {} is outside 1280 to 65535", config.network.mtu));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"machine":"native","hostname":"dhow","disk":"proven","channel":"serial",
        "network":{"address":"10.0.2.15","prefix":24,"gateway":"10.0.2.2","dns":["10.0.2.3"],"mtu":1500}}"#;

    #[test]
    fn a_configuration_is_read_as_the_host_writes_it() {
        let config = parse(GOOD.as_bytes()).unwrap();
        let again = parse(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(config, again);
        assert_eq!(config.network.prefix, 24);
    }

    /// Spec 8.4: what is not understood is an error, not a panic and not ignored.
    #[test]
    fn a_configuration_that_is_not_understood_is_refused() {
        let table = [
            ("", "EOF"),
            ("{}", "missing field"),
            (&GOOD.replace("\"prefix\":24", "\"prefix\":33"), "longer than an address"),
            (&GOOD.replace("\"mtu\":1500", "\"mtu\":70000"), "outside"),
            (&GOOD.replace("\"mtu\":1500", "\"mtu\":1279"), "outside"),
            (&GOOD.replace("\"hostname\":\"dhow\"", "\"hostname\":\"a b\""), "no host name"),
            (&GOOD.replace("\"hostname\":\"dhow\"", "\"hostname\":\"-x\""), "no host name"),
            (&GOOD.replace("\"proven\"", "\"maybe\""), "unknown variant"),
            (&GOOD.replace("{\"machine\"", "{\"extra\":1,\"machine\""), "unknown field"),
        ];
        for (text, why) in table {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
