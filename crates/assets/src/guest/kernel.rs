//! The kernel as a hypervisor wants it: on x86-64 the `vmlinux` inside Debian's bzImage, which starts directly through PVH and
//! without decompressing itself in the guest; on Arm64 the uncompressed `Image`.

use std::io::Read;

use dhow_model::Arch;

use crate::error::{Error, Result};
use crate::image::elf::Elf;

/// `XEN_ELFNOTE_PHYS32_ENTRY`: where a PVH loader enters (include/xen/interface/elfnote.h).
const PVH_ENTRY: u32 = 18;
/// No kernel is larger; a decompressor that is fed rubbish stops here.
const LIMIT: u64 = 512 << 20;

/// Extracts the bootable form from a packaged kernel.
///
/// # Errors
/// The file is no kernel of this architecture, or is packed in a way that is not known.
pub fn extract(packaged: &[u8], name: &str, arch: Arch) -> Result<Vec<u8>> {
    let kernel = match arch {
        Arch::Amd64 => vmlinux(packaged),
        Arch::Arm64 => image(packaged),
    };
    let kernel = kernel.map_err(|reason| Error::malformed(name, "kernel", reason))?;
    check(&kernel, arch).map_err(|reason| Error::malformed(name, "kernel", reason))?;
    Ok(kernel)
}

/// Whether the first bytes (64 suffice) are a kernel's of this architecture.
pub(crate) fn check_header(head: &[u8], arch: Arch) -> Result<(), String> {
    match arch {
        Arch::Amd64 => match Elf::parse(head) {
            Some(elf) if elf.machine() == arch.elf_machine() => Ok(()),
            Some(elf) => Err(format!("it is a kernel for another processor (ELF machine {})", elf.machine())),
            None => Err("it is no uncompressed kernel (ELF)".to_owned()),
        },
        // Documentation/arch/arm64/booting.rst: the magic number at byte 56.
        Arch::Arm64 if head.get(56..60) == Some(b"ARM\x64") => Ok(()),
        Arch::Arm64 => Err("it is no uncompressed Arm64 kernel image".to_owned()),
    }
}

fn check(kernel: &[u8], arch: Arch) -> Result<(), String> {
    check_header(kernel, arch)?;
    if arch == Arch::Amd64 && !Elf::parse(kernel).is_some_and(|elf| elf.has_note("Xen", PVH_ENTRY)) {
        return Err("it has no PVH entry (CONFIG_PVH), so that it cannot be started uncompressed".to_owned());
    }
    Ok(())
}

/// Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset` and `payload_length` of the header.
fn vmlinux(bzimage: &[u8]) -> Result<Vec<u8>, String> {
    if bzimage.get(0x202..0x206) != Some(b"HdrS") {
        return if Elf::parse(bzimage).is_some() {
            Ok(bzimage.to_vec())
        } else {
            Err("it is no bzImage".to_owned())
        };
    }
    let word = |at: usize| {
        let bytes = bzimage.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or_else(|| "it is cut short".to_owned())
    };
    let sectors = match bzimage[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + word(0x248)? as usize;
    let payload = bzimage.get(start..start.saturating_add(word(0x24c)? as usize)).ok_or("it is cut short")?;
    unpack(payload)
}

fn image(packaged: &[u8]) -> Result<Vec<u8>, String> {
    // An EFI zboot image (drivers/firmware/efi/libstub/zboot-header.S): offset and size of the payload, its compression's name.
    if packaged.get(..2) == Some(b"MZ") && packaged.get(4..8) == Some(b"zimg") {
        let word = |at: usize| {
            let bytes = packaged.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(|bytes| u32::from_le_bytes(bytes) as usize).ok_or("it is cut short")
        };
        let (start, size) = (word(8)?, word(12)?);
        return unpack(packaged.get(start..start.saturating_add(size)).ok_or("it is cut short")?);
    }
    if packaged.get(56..60) == Some(b"ARM\x64") { Ok(packaged.to_vec()) } else { unpack(packaged) }
}

/// Kernel builds append the unpacked size to some formats, so trailing bytes are no error.
fn unpack(payload: &[u8]) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let result = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let reader =
                ruzstd::decoding::StreamingDecoder::new(payload).map_err(|error| error.to_string())?;
            reader.take(LIMIT).read_to_end(&mut content)
        }
        [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(payload).take(LIMIT).read_to_end(&mut content),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            lzma_rust2::XzReader::new(payload, false).take(LIMIT).read_to_end(&mut content)
        }
        _ => return Err("its compression is not known (zstd, gzip and xz are)".to_owned()),
    };
    result.map_err(|error| error.to_string())?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn arm64() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    #[test]
    fn an_arm64_image_is_found_plain_gzipped_and_in_a_zboot_image() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&arm64()).unwrap();
        let gzip = encoder.finish().unwrap();
        let mut zboot = b"MZ\0\0zimg".to_vec();
        zboot.extend_from_slice(&64_u32.to_le_bytes());
        zboot.extend_from_slice(&(gzip.len() as u32).to_le_bytes());
        zboot.resize(64, 0);
        zboot.extend_from_slice(&gzip);
        for packaged in [arm64(), gzip, zboot] {
            assert_eq!(extract(&packaged, "vmlinuz", Arch::Arm64).unwrap(), arm64());
        }
    }

    #[test]
    fn a_file_that_is_no_kernel_is_refused_by_name() {
        for arch in Arch::ALL {
            let error = extract(b"hello", "boot/vmlinuz", arch).unwrap_err().to_string();
            assert!(error.starts_with("boot/vmlinuz is not a valid kernel"), "{error}");
        }
    }
}
