//! Bodies as encoders write them, cut anywhere; and bodies as nobody should write them.

use super::*;
use http::HeaderValue;
use std::io::Write;

fn coding(names: &[&'static str]) -> Coding {
    let mut headers = HeaderMap::new();
    for name in names {
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    Coding::of(&headers)
}

fn decoder(name: &'static str) -> Box<ContentDecoder> {
    match coding(&[name]) {
        Coding::Known(decoder) => decoder,
        other => panic!("{name} is {other:?}"),
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("f")
        .comment("c")
        .extra("extra")
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn deflate(plain: &[u8], zlib: bool) -> Vec<u8> {
    let level = flate2::Compression::default();
    if zlib {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(plain).expect("memory");
        encoder.finish().expect("memory")
    } else {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
        encoder.write_all(plain).expect("memory");
        encoder.finish().expect("memory")
    }
}

fn brotli(plain: &[u8], window: u32) -> Vec<u8> {
    let mut encoder = ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, window);
    encoder.write_all(plain).expect("memory");
    encoder.into_inner()
}

fn zstd(plain: &[u8], window: Option<u32>) -> Vec<u8> {
    let mut context = zstd_safe::CCtx::create();
    if let Some(window) = window {
        context.set_parameter(zstd_safe::CParameter::WindowLog(window)).expect("valid");
        context.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).expect("valid");
    }
    let mut encoded = vec![0; zstd_safe::compress_bound(plain.len()) + 64];
    context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).expect("valid");
    let written = context.compress2(&mut encoded[..], plain).expect("room");
    encoded.truncate(written);
    encoded
}

/// Decodes in chunks; `Err` has what came out before.
fn decode(name: &'static str, encoded: &[u8], chunk: usize) -> Result<Vec<u8>, Vec<u8>> {
    let (mut decoder, mut plain) = (decoder(name), Vec::new());
    for piece in encoded.chunks(chunk) {
        let decoded = decoder.decode(piece, |bytes| {
            assert!(bytes.len() <= PIECE && !bytes.is_empty());
            plain.extend_from_slice(bytes);
        });
        if decoded.is_err() {
            assert_eq!(decoder.decode(b"more", |_| panic!("nothing comes any more")), Err(Undecodable));
            return Err(plain);
        }
    }
    Ok(plain)
}

/// A text that is neither short nor dull.
fn text() -> Vec<u8> {
    (0..4000_u32)
        .flat_map(|n| format!("{{\"row\":{n},\"v\":{}}}\n", n.wrapping_mul(2_654_435_761)).into_bytes())
        .collect()
}

/// The same text in every coding.
fn encoded(plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (middle, end) = plain.split_at(plain.len() / 3);
    vec![
        ("gzip", gzip(plain)),
        ("X-GZip", [gzip(middle), gzip(b""), gzip(end)].concat()),
        ("gzip", [gzip(plain), vec![0; 512]].concat()),
        ("deflate", deflate(plain, true)),
        ("deflate", deflate(plain, false)),
        ("br", brotli(plain, 22)),
        ("zstd", zstd(plain, None)),
        ("zstd", [zstd(middle, None), b"\x50\x2a\x4d\x18\x02\0\0\0..".to_vec(), zstd(end, None)].concat()),
        ("gzip, br", brotli(&gzip(plain), 18)),
        ("zstd , identity,deflate", deflate(&zstd(plain, None), true)),
    ]
}

#[test]
fn every_coding_is_undone_however_it_is_cut() {
    let plain = text();
    for (name, encoded) in encoded(&plain) {
        for chunk in [1, 2, 3, 7, 1000, 16 << 10, encoded.len()] {
            let decoded = decode(name, &encoded, chunk);
            assert!(decoded.as_ref() == Ok(&plain), "{name} in chunks of {chunk}");
        }
    }
    for (name, encoded) in encoded(b"") {
        assert_eq!(decode(name, &encoded, 1), Ok(Vec::new()), "{name}");
    }
}

#[test]
fn what_was_flushed_is_given_at_once() {
    // Short ones, and long ones, together longer than any window here.
    let event = |n: u32| format!("id: {n}\ndata: {{\"progress\":{n}{}}}\n\n", " ".repeat(n as usize * 37));
    let events: Vec<String> = (0..120).map(event).collect();
    let level = flate2::Compression::default();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), level);
    let mut br = ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    let mut zs = zstd_safe::CCtx::create();
    let mut decoders = [decoder("gzip"), decoder("br"), decoder("zstd")];
    for event in &events {
        gz.write_all(event.as_bytes()).and_then(|()| gz.flush()).expect("memory");
        br.write_all(event.as_bytes()).and_then(|()| br.flush()).expect("memory");
        let mut frame = vec![0; 1000];
        let mut target = zstd_safe::OutBuffer::around(&mut frame[..]);
        let mut source = zstd_safe::InBuffer::around(event.as_bytes());
        zs.compress_stream2(&mut target, &mut source, zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush)
            .expect("room");
        let written = target.pos();
        let flushed = [std::mem::take(gz.get_mut()), std::mem::take(br.get_mut()), frame[..written].to_vec()];
        for (decoder, bytes) in decoders.iter_mut().zip(flushed) {
            let mut plain = Vec::new();
            decoder.decode(&bytes, |piece| plain.extend_from_slice(piece)).expect("whole");
            assert_eq!(String::from_utf8_lossy(&plain), *event, "{decoder:?}");
        }
    }
}

#[test]
fn a_body_that_is_cut_off_gives_what_came() {
    let plain = text();
    for (name, encoded) in encoded(&plain) {
        for len in (0..encoded.len()).step_by(997) {
            let decoded = decode(name, &encoded[..len], 512).expect("not wrong, only short");
            assert!(plain.starts_with(&decoded), "{name} cut at {len}");
        }
    }
}

#[test]
fn a_corrupt_body_is_left_at_the_first_wrong_byte() {
    let plain = text();
    for (name, encoded) in encoded(&plain) {
        for at in (0..encoded.len()).step_by(1501) {
            let mut broken = encoded.clone();
            broken[at] ^= 0x55;
            let whole = decode(name, &broken, broken.len());
            // A header's name or time may say anything, and brotli has no checksum.
            assert_eq!(whole.is_ok(), decode(name, &broken, 100).is_ok(), "{name} at {at}");
        }
        let noise: Vec<u8> = (1..3000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let _ = decode(name, &noise, 10);
    }
    let mut wrong_checksum = gzip(&plain);
    let at = wrong_checksum.len() - 5;
    wrong_checksum[at] ^= 1;
    assert!(decode("gzip", &wrong_checksum, 100).is_err());
    assert!(decode("gzip", b"{\"id\":1}", 100).is_err(), "a body that is not encoded at all");
}

#[test]
fn a_bomb_is_left_when_it_has_cost_enough() {
    let zeros = vec![b' '; 64 << 20];
    let twice = gzip(&gzip(&zeros));
    for (name, bomb) in [
        ("gzip", gzip(&zeros)),
        ("deflate", deflate(&zeros, false)),
        ("br", brotli(&zeros, 22)),
        ("zstd", zstd(&zeros, Some(20))),
        ("gzip, gzip", twice),
    ] {
        let decoded = decode(name, &bomb, 100).expect_err("too much").len() as u64;
        assert!(decoded <= FREE_OUTPUT + bomb.len() as u64 * MAX_RATIO, "{name}: {decoded}");
    }
    // What is only well packed is read to its end.
    let rows = b"{\"status\":\"ok\",\"value\":0},".repeat(30_000);
    assert_eq!(decode("gzip", &gzip(&rows), 4096).map(|plain| plain.len()), Ok(rows.len()));
}

#[test]
fn windows_that_are_too_large_are_not_begun() {
    let plain = text();
    assert_eq!(decode("br", &brotli(&plain, 23), 100), Ok(plain.clone()));
    assert_eq!(decode("br", &brotli(&plain, 24), 100), Err(Vec::new()));
    assert_eq!(decode("zstd", &zstd(&plain, Some(23)), 100), Ok(plain.clone()));
    // Asks for 16 MiB in its header: magic, descriptor, window.
    assert_eq!(decode("zstd", b"\x28\xb5\x2f\xfd\0\x70\x01\0\0", 100), Err(Vec::new()));
}

#[test]
fn headers_name_codings_once_or_several_times_in_any_case() {
    assert!(matches!(coding(&[]), Coding::Plain));
    assert!(matches!(coding(&["identity"]), Coding::Plain));
    assert!(matches!(coding(&["Identity, ", ""]), Coding::Plain));
    assert!(matches!(coding(&["GZIP"]), Coding::Known(_)));
    assert!(matches!(coding(&["compress"]), Coding::Unknown));
    assert!(matches!(coding(&["gzip, dcz"]), Coding::Unknown));
    assert!(matches!(coding(&["gzip, gzip, gzip, gzip"]), Coding::Unknown));
    let Coding::Known(mut decoder) = coding(&["gzip", "br"]) else { panic!("both are known") };
    let mut plain = Vec::new();
    decoder.decode(&brotli(&gzip(b"{}"), 16), |bytes| plain.extend_from_slice(bytes)).expect("whole");
    assert_eq!(plain, b"{}");
}
