//! Length-prefixed JSON frames: a little-endian `u32` byte count, then that many bytes of JSON.
//!
//! Both a blocking and an asynchronous reader are here because the engine runs plain threads and the gateway
//! runs tokio. A frame larger than the bound is refused before its body is read.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame either side accepts, in bytes. A request holds at most a conversation; 4 MiB is far above
/// any context the appliance runs and far below what could hurt it.
pub const MAX_FRAME: u32 = 4 * 1024 * 1024;

/// What can go wrong with a frame. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between frames: the ordinary end.
    #[error("read a frame: the peer closed the connection")]
    Closed,
    /// The announced length exceeds [`MAX_FRAME`].
    #[error("read a frame: {0} bytes announced, at most {MAX_FRAME} are accepted")]
    TooLarge(u32),
    /// The body is not the JSON that was expected.
    #[error("decode a frame: {0}")]
    Decode(#[source] serde_json::Error),
    /// The message could not be turned into JSON.
    #[error("encode a frame: {0}")]
    Encode(#[source] serde_json::Error),
    /// The socket failed.
    #[error("move a frame: {0}")]
    Io(#[from] io::Error),
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(FrameError::Encode)?;
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

fn length_of(header: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header);
    if length > MAX_FRAME {
        Err(FrameError::TooLarge(length))
    } else {
        Ok(length as usize)
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Decode)
}

/// Writes one frame, blocking.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    to.flush()?;
    Ok(())
}

/// Reads one frame, blocking. End of stream before the first byte is [`FrameError::Closed`].
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut header = [0; 4];
    let mut got = 0;
    while got < 4 {
        match from.read(&mut header[got..]) {
            Ok(0) if got == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut body = vec![0; length_of(header)?];
    from.read_exact(&mut body)?;
    decode(&body)
}

/// Writes one frame on a tokio stream.
pub async fn write_async<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    to.write_all(&encode(message)?).await?;
    to.flush().await?;
    Ok(())
}

/// Reads one frame from a tokio stream. Not cancel-safe: a dropped call may lose part of a frame, so drop
/// the connection with it.
pub async fn read_async<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> Result<T, FrameError> {
    let mut header = [0; 4];
    let mut got = 0;
    while got < 4 {
        match from.read(&mut header[got..]).await? {
            0 if got == 0 => return Err(FrameError::Closed),
            0 => return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into())),
            n => got += n,
        }
    }
    let mut body = vec![0; length_of(header)?];
    from.read_exact(&mut body).await?;
    decode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_above_the_bound_is_refused_before_the_body() {
        let mut bytes: &[u8] = &(MAX_FRAME + 1).to_le_bytes();
        assert!(matches!(read::<String>(&mut bytes), Err(FrameError::TooLarge(n)) if n == MAX_FRAME + 1));
    }

    #[test]
    fn the_end_between_frames_is_told_from_the_end_within_one() {
        assert!(matches!(read::<String>(&mut &b""[..]), Err(FrameError::Closed)));
        assert!(matches!(
            read::<String>(&mut &b"\x05\0"[..]),
            Err(FrameError::Io(_))
        ));
        assert!(matches!(
            read::<String>(&mut &b"\x05\0\0\0\"a"[..]),
            Err(FrameError::Io(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_went_in(texts in proptest::collection::vec(any::<String>(), 0..8)) {
            let mut bytes = Vec::new();
            for text in &texts { write(&mut bytes, text).unwrap(); }
            let mut rest = &bytes[..];
            for text in &texts { prop_assert_eq!(&read::<String>(&mut rest).unwrap(), text); }
            prop_assert!(matches!(read::<String>(&mut rest), Err(FrameError::Closed)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<crate::engine::Request>(&mut &bytes[..]);
        }
    }
}
