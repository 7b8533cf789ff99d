//! Answers: header blocks and bodies, within the peer's windows.

use super::super::flow::Window;
use super::super::frame::{self, DATA, END_STREAM, NO_ERROR};
use super::Server;
use super::streams::End;

/// An answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// The header block.
    pub(crate) head: &'a [u8],
    /// The body, and the block of the trailers behind it. `None` if the header block is all.
    pub(crate) rest: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Answer<'a> {
    /// A header block alone.
    pub(crate) fn refusal(head: &'a [u8]) -> Self {
        Self { head, rest: None }
    }
}

/// What is left of an answer.
#[derive(Debug)]
pub(super) struct Unsent {
    body: Vec<u8>,
    sent: usize,
    trailers: Vec<u8>,
}

impl<C> Server<C> {
    /// Answers a request, as far as the windows allow at once. One that is not whole is answered,
    /// too; what still comes of it is not heard. Nothing happens if the peer does not wait any
    /// more.
    pub(crate) fn respond(&mut self, id: u32, answer: Answer<'_>) {
        let Some(stream) = self.streams.get(id) else { return };
        if stream.gone {
            return self.streams.remove(id, End::Answered);
        }
        self.credit_connection(Window::credit);
        let Some((body, trailers)) = answer.rest else {
            self.put_block(id, answer.head, END_STREAM);
            return self.close(id);
        };
        self.put_block(id, answer.head, 0);
        let fits = i64::try_from(body.len()).is_ok_and(|len| len <= stream_room(self, id));
        if fits && body.len() <= self.peer.frame_bytes_max {
            self.put_data(id, body);
            self.put_block(id, trailers, END_STREAM);
            return self.close(id);
        }
        let unsent = Unsent { body: body.to_vec(), sent: 0, trailers: trailers.to_vec() };
        if let Some(stream) = self.streams.get(id) {
            stream.unsent = Some(Box::new(unsent));
        }
        self.send_on_stream(id);
    }

    /// Answers a request of which nothing is kept.
    pub(super) fn put_refusal(&mut self, id: u32, block: &[u8]) {
        self.put_block(id, block, END_STREAM);
    }

    /// Answers those requests whose body is still to come that `judge` has an answer for. Of those
    /// that were answered before, none is waited for any more.
    pub(crate) fn refuse_some(&mut self, judge: impl FnMut(&mut C) -> Option<Vec<u8>>) {
        let arriving = self.streams.iter_mut().filter(|s| !s.ended);
        let answered: Vec<_> = arriving.filter(|s| s.call.is_none()).map(|s| s.id).collect();
        answered.into_iter().for_each(|id| self.give_up(id));
        self.judge(judge);
    }

    /// Answers those requests whose body is still to come that `judge` has an answer for.
    pub(crate) fn judge(&mut self, mut judge: impl FnMut(&mut C) -> Option<Vec<u8>>) {
        let mut refused = Vec::new();
        for stream in self.streams.iter_mut().filter(|s| !s.ended) {
            let answer = stream.call.as_mut().and_then(&mut judge);
            refused.extend(answer.map(|block| (stream.id, block)));
        }
        for (id, block) in refused {
            self.respond(id, Answer::refusal(&block));
        }
    }

    /// The rest of a request that was answered is not waited for (RFC 9113 §8.1).
    pub(super) fn give_up(&mut self, id: u32) {
        frame::put_reset(&mut self.out, id, NO_ERROR);
        self.streams.remove(id, End::Reset);
    }

    /// Sends what the windows allow now, on every stream.
    pub(super) fn send_on(&mut self) {
        let waiting: Vec<u32> =
            self.streams.iter_mut().filter(|s| s.unsent.is_some()).map(|s| s.id).collect();
        for id in waiting {
            self.send_on_stream(id);
        }
    }

    pub(super) fn send_on_stream(&mut self, id: u32) {
        let room = stream_room(self, id);
        let Some(mut unsent) = self.streams.get(id).and_then(|s| s.unsent.take()) else { return };
        let mut room = usize::try_from(room).unwrap_or(0);
        while room > 0 && unsent.sent < unsent.body.len() {
            let left = &unsent.body[unsent.sent..];
            let n = left.len().min(room).min(self.peer.frame_bytes_max);
            self.put_data(id, &left[..n]);
            unsent.sent += n;
            room -= n;
        }
        if unsent.sent == unsent.body.len() {
            self.put_block(id, &unsent.trailers, END_STREAM);
            self.close(id);
        } else if let Some(stream) = self.streams.get(id) {
            stream.unsent = Some(unsent);
        }
    }

    fn put_block(&mut self, id: u32, block: &[u8], end: u8) {
        frame::put_block(&mut self.out, id, end, block, self.peer.frame_bytes_max);
    }

    fn put_data(&mut self, id: u32, bytes: &[u8]) {
        frame::put_header(&mut self.out, bytes.len(), DATA, 0, id);
        self.out.extend_from_slice(bytes);
        self.send -= bytes.len() as i64;
        if let Some(stream) = self.streams.get(id) {
            stream.send -= bytes.len() as i64;
        }
    }

    /// The answer is sent. The request may not have ended yet: its peer will see that it need not.
    fn close(&mut self, id: u32) {
        match self.streams.get(id) {
            Some(stream) if !stream.ended => stream.call = None,
            _ => self.streams.remove(id, End::Answered),
        }
    }
}

/// What may be sent on a stream now.
fn stream_room<C>(server: &mut Server<C>, id: u32) -> i64 {
    let connection = server.send;
    server.streams.get(id).map_or(0, |s| s.send.min(connection))
}
