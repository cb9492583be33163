//! What the fuzz targets share: how an input is cut into chunks, and a world of exchanges.

mod message;
pub mod world;

/// Cuts `bytes` as `seed` says: at every byte, in equal chunks, or in two.
pub fn chunks(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    match seed {
        0 => vec![bytes],
        1..=64 => bytes.chunks(usize::from(seed)).collect(),
        _ => {
            let (start, end) = bytes.split_at(bytes.len() * usize::from(seed - 65) / 191);
            vec![start, end]
        }
    }
}
