//! Counting items without an index.

use super::layout::{DATA_POINTS, DEPRECATED_SCOPES, ITEMS, RESOURCES, SCOPES, metric_data, names};
use super::wire::{Extent, Reader};
use super::{Error, Item, Signal};

/// Spans, log records or metric points in a request.
///
/// Cheaper than [`super::scan()`], and judges less: lengths and wire types on the way to the
/// items, no ids.
///
/// # Errors
/// The first thing that is wrong on the way.
pub fn items(signal: Signal, body: &[u8]) -> Result<u64, Error> {
    let end = u32::try_from(body.len()).map_err(|_| Error::TooLarge)?;
    let names = names(signal);
    let mut count = 0;
    let mut request = Reader::new(body, Extent { start: 0, end });
    while !request.at_end() {
        let tag = request.tag()?;
        if tag.field == RESOURCES {
            let content = request.content_of(tag, names.resources)?;
            count += in_resource(signal, body, content)?;
        } else {
            request.skip(tag)?;
        }
    }
    Ok(count)
}

fn in_resource(signal: Signal, body: &[u8], message: Extent) -> Result<u64, Error> {
    let names = names(signal);
    let (mut count, mut deprecated, mut scopes) = (0, 0, 0u32);
    let mut reader = Reader::new(body, message);
    while !reader.at_end() {
        let tag = reader.tag()?;
        match tag.field {
            SCOPES => {
                let content = reader.content_of(tag, names.scopes)?;
                scopes += 1;
                count += in_scope(signal, body, content)?;
            }
            DEPRECATED_SCOPES => {
                let content = reader.content_of(tag, names.deprecated_scopes)?;
                deprecated += in_scope(signal, body, content)?;
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(if scopes == 0 { deprecated } else { count })
}

fn in_scope(signal: Signal, body: &[u8], message: Extent) -> Result<u64, Error> {
    let names = names(signal);
    let mut count = 0;
    let mut reader = Reader::new(body, message);
    while !reader.at_end() {
        let tag = reader.tag()?;
        if tag.field == ITEMS {
            let item = reader.content_of(tag, names.items)?;
            count += if signal == Signal::Metrics { points(body, item)? } else { 1 };
        } else {
            reader.skip(tag)?;
        }
    }
    Ok(count)
}

/// Data points of a metric in a request that was scanned; 1 for any other item.
#[must_use]
#[inline]
pub fn items_of(signal: Option<Signal>, body: &[u8], item: &Item) -> u64 {
    if signal != Some(Signal::Metrics) {
        return 1;
    }
    points(body, item.content(body)).expect("scanned before")
}

/// Data points of a metric. Of several data fields (a oneof) the last counts, as in the collector.
pub(super) fn points(body: &[u8], metric: Extent) -> Result<u64, Error> {
    let mut count = 0;
    let mut reader = Reader::new(body, metric);
    while !reader.at_end() {
        let tag = reader.tag()?;
        let Some(name) = metric_data(tag.field) else {
            reader.skip(tag)?;
            continue;
        };
        let mut data = Reader::new(body, reader.content_of(tag, name)?);
        count = 0;
        while !data.at_end() {
            let tag = data.tag()?;
            if tag.field == DATA_POINTS {
                data.content_of(tag, "DataPoints")?;
                count += 1;
            } else {
                data.skip(tag)?;
            }
        }
    }
    Ok(count)
}
