use proptest::prelude::*;

use super::*;

const MAX: u64 = 5_000;

fn metered(part: &Arc<MemoryPart>, rpc: &'static str) -> (Metered, RequestMemory) {
    let limits = RequestLimits { part: part.clone(), probes: part.clone(), max_request_bytes: MAX };
    let (body, memory) = RequestBody::new((), rpc, Some(&limits), &Arc::default()).unwrap();
    (body.metered, memory.unwrap())
}

fn arrived(body: &mut Metered, data: &[u8]) -> Result<(), Full> {
    let begun = body.begun_in(data);
    body.memory.as_ref().unwrap().add(begun)
}

fn message(compressed: bool, bytes: usize) -> Vec<u8> {
    let mut message = vec![u8::from(compressed)];
    message.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    message.resize(PREFIX_BYTES + bytes, 7);
    message
}

proptest! {
    /// However the bytes are split, those that a message announces are reserved as soon as its prefix is there.
    /// Covers S19.
    #[test]
    fn what_is_announced_is_reserved_however_the_bytes_are_split(
        messages in prop::collection::vec((prop::bool::weighted(0.2), 0..3_000_usize), 1..6),
        cuts in prop::collection::vec(1..2_000_usize, 1..40),
    ) {
        for rpc in ["Set", "Write"] {
            let part = MemoryPart::new("requests", 1_000_000, 0);
            let (mut body, memory) = metered(&part, rpc);
            let messages = &messages[..if rpc == "Set" { 1 } else { messages.len() }];
            let bytes: Vec<u8> = messages.iter().flat_map(|(flag, bytes)| message(*flag, *bytes)).collect();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < bytes.len() {
                let end = bytes.len().min(at + cuts.next().unwrap());
                body.next_bytes_are_asked_for();
                arrived(&mut body, &bytes[at..end]).unwrap();
                // Of a Write stream, what was complete before these bytes is released.
                let (mut start, mut expected) = (0, if rpc == "Write" { STREAM_WINDOW.into() } else { 0 });
                let mut decompressed = 0;
                for (flag, length) in messages {
                    let last = start + PREFIX_BYTES + length;
                    if start + PREFIX_BYTES <= end && (rpc == "Set" || last > at) {
                        expected += *length as u64;
                        decompressed = decompressed.max(if *flag { MAX.min(*length as u64 * 1_032) } else { 0 });
                    }
                    start = last;
                }
                prop_assert_eq!(part.used(), expected + decompressed, "{} to {}", rpc, end);
                at = end;
            }
            drop(body);
            drop(memory);
            prop_assert_eq!(part.used(), 0);
        }
    }
}

/// Many small compressed messages in one frame are what a client sends that compresses a stream.
/// Covers S19.
#[test]
fn compressed_messages_count_with_the_largest_and_release_what_it_did_not_need() {
    let part = MemoryPart::new("requests", 300_000, 0);
    let (mut body, memory) = metered(&part, "Write");
    let frame = [message(true, 2), message(true, 3), message(true, 1)].concat().repeat(500);
    arrived(&mut body, &frame).unwrap();
    assert_eq!(part.used(), u64::from(STREAM_WINDOW) + 3_000 + 3 * MAX_COMPRESSION);
    memory.decoded(|| 40);
    memory.decoded(|| 30);
    body.next_bytes_are_asked_for();
    assert_eq!(part.used(), u64::from(STREAM_WINDOW) + 2 * 40, "the buffer stays as large as the largest");
    // A message that has begun needs more than the buffer has.
    arrived(&mut body, &[message(true, 1), message(true, 9)].concat()[..13]).unwrap();
    memory.decoded(|| 10);
    body.next_bytes_are_asked_for();
    assert_eq!(part.used(), u64::from(STREAM_WINDOW) + 9 + MAX);
}

/// Covers S19.
#[tokio::test(start_paused = true)]
async fn a_message_of_a_stream_waits_for_room_and_the_stream_ends_before_it_if_there_is_none() {
    for released in [true, false] {
        let part = MemoryPart::new("requests", u64::from(STREAM_WINDOW) + 1_000, 0);
        let limits = RequestLimits { part: part.clone(), probes: part.clone(), max_request_bytes: MAX };
        let frame = Bytes::from([message(false, 400), message(false, 500)].concat());
        let (mut body, memory) =
            RequestBody::new(Silent(Some(frame.clone())), "Write", Some(&limits), &Arc::default()).unwrap();
        let other = part.reserve(200).unwrap();
        let mut read = tokio::spawn(async move {
            let read = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            (read, body)
        });
        assert!(tokio::time::timeout(Duration::from_secs(5), &mut read).await.is_err(), "it waits");
        if released {
            drop(other);
            let (read, _body) = read.await.unwrap();
            assert_eq!(read.unwrap().unwrap().into_data().unwrap(), frame);
            assert_eq!(part.used(), u64::from(STREAM_WINDOW) + 900);
        } else {
            let error = read.await.unwrap().0.unwrap().unwrap_err().to_string();
            assert!(error.contains("before this message"), "{error}");
            assert_eq!(part.used(), u64::from(STREAM_WINDOW) + 200);
        }
        drop(memory);
    }
}

/// A body that is silent after some bytes.
struct Silent(Option<Bytes>);

impl Body for Silent {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

/// Covers S19, B16.
#[tokio::test(start_paused = true)]
async fn a_message_that_has_begun_must_arrive_and_a_silent_stream_may_stay() {
    let whole = message(false, 10);
    for (bytes, ends) in
        [(&whole[..], false), (&whole[..14], true), (&whole[..5], true), (&whole[..1], true), (&[][..], false)]
    {
        let part = MemoryPart::new("requests", 1_000_000, 0);
        let limits = RequestLimits { part: part.clone(), probes: part, max_request_bytes: MAX };
        let silent = Silent((!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes)));
        let (mut body, _memory) = RequestBody::new(silent, "Write", Some(&limits), &Arc::default()).unwrap();
        let read =
            async { while std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().is_ok() {} };
        let ended = tokio::time::timeout(10 * REQUEST_TIMEOUT, read).await;
        assert_eq!(ended.is_ok(), ends, "{} bytes", bytes.len());
    }
}

/// Covers S19.
#[test]
fn a_message_is_refused_when_its_length_is_announced() {
    let part = MemoryPart::new("requests", 1_000, 0);
    let (mut body, _memory) = metered(&part, "Set");
    arrived(&mut body, &message(false, 900)[..PREFIX_BYTES]).unwrap();
    let (mut other, _other) = metered(&part, "Get");
    let full = arrived(&mut other, &message(false, 101)[..PREFIX_BYTES]).unwrap_err();
    assert_eq!((full.used, full.wanted), (900, 101));
    let (mut fits, _fits) = metered(&part, "Set");
    arrived(&mut fits, &message(false, 100)[..PREFIX_BYTES]).unwrap();
    let limits = RequestLimits { part: part.clone(), probes: part, max_request_bytes: MAX };
    let full = RequestBody::new((), "Write", Some(&limits), &Arc::default())
        .err()
        .expect("no room for what it may leave unread");
    assert_eq!(full.wanted, u64::from(STREAM_WINDOW));
}
