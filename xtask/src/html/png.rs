//! How does a picture come into a page without a file? As a PNG in a `data:` link.
//!
//! One colour in 256 opacities is a palette with transparency: a byte a pixel, deflated.

use flate2::{Compression, Crc, write::ZlibEncoder};
use std::io::Write;

/// Okabe and Ito's blue, which the style sheet makes lighter where the page is dark.
const COLOUR: [u8; 3] = [0, 114, 178];

/// The picture as a link; `opacities` are row by row, and as many as there are pixels.
pub fn link(width: usize, height: usize, opacities: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64(&encode(width, height, opacities)))
}

/// A PNG file (ISO/IEC 15948): header, palette, transparency, pixels, end.
fn encode(width: usize, height: usize, opacities: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend((width as u32).to_be_bytes());
    header.extend((height as u32).to_be_bytes());
    // Eight bits, palette, deflate, the usual filters, not interlaced.
    header.extend([8, 3, 0, 0, 0]);
    let transparency: Vec<u8> = (0..=255).collect();
    let mut lines = Vec::with_capacity(opacities.len() + height);
    for line in opacities.chunks(width.max(1)) {
        // Each line begins with its filter: none.
        lines.push(0);
        lines.extend(line);
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"PLTE", &COLOUR.repeat(256));
    chunk(&mut file, b"tRNS", &transparency);
    chunk(&mut file, b"IDAT", &deflate(&lines));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn chunk(file: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    file.extend((content.len() as u32).to_be_bytes());
    file.extend(name);
    file.extend(content);
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(content);
    file.extend(crc.sum().to_be_bytes());
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            match letter <= three.len() {
                true => text.push(char::from(LETTERS[(bits >> (18 - 6 * letter)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::ZlibDecoder;
    use std::io::Read;

    #[test]
    fn base64_is_the_rfc_s() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn a_file_holds_its_pixels() {
        let file = encode(3, 2, &[0, 255, 17, 34, 0, 255]);
        assert_eq!(file[16..24], [0, 0, 0, 3, 0, 0, 0, 2]);
        let at = file.windows(4).position(|name| name == b"IDAT").unwrap();
        let length = u32::from_be_bytes(file[at - 4..at].try_into().unwrap()) as usize;
        let mut lines = Vec::new();
        ZlibDecoder::new(&file[at + 4..at + 4 + length]).read_to_end(&mut lines).unwrap();
        assert_eq!(lines, [0, 0, 255, 17, 0, 34, 0, 255]);
        // The checksum of the empty last chunk is known.
        assert!(file.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"));
    }
}
