//! How is memory fenced? Allocations of a thread that asked for it come from a reserve of addresses in
//! which nothing else is readable: pages of their own, flush against the next page or the one before,
//! never used twice.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr::{null_mut, without_provenance_mut},
    sync::OnceLock,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Which side of an allocation is fenced to the byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Side {
    /// The byte after the last is not there (as far as alignment allows).
    End,
    /// The byte before the first is not there.
    Start,
}

/// Addresses reserved: no memory, and enough for every allocation that these tests make.
const RESERVE: usize = 1 << 40;

thread_local! {
    static SIDE: Cell<Option<Side>> = const { Cell::new(None) };
}

/// From here on, this thread's allocations are fenced.
pub fn put_up(side: Side) {
    SIDE.set(Some(side));
}

/// The allocator.
pub struct Fenced;

struct Reserve {
    first: usize,
    page: usize,
    used: AtomicUsize,
}

static RESERVED: OnceLock<Reserve> = OnceLock::new();

fn reserve() -> &'static Reserve {
    RESERVED.get_or_init(|| {
        // SAFETY: a new mapping that nobody may touch, anywhere.
        let first = unsafe { map(0, RESERVE, libc::PROT_NONE, 0) };
        assert!(first != 0, "no addresses to fence memory in");
        // SAFETY: asks a question.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) });
        Reserve { first, page: page.expect("the size of a page"), used: AtomicUsize::new(0) }
    })
}

/// New pages that cost no memory until they are written; 0 if there are none.
///
/// # Safety
///
/// With `MAP_FIXED` among the flags, what lies at `at` is replaced: nobody uses it any more.
unsafe fn map(at: usize, bytes: usize, protection: i32, flags: i32) -> usize {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
    // SAFETY: the caller's promise.
    let found = unsafe { libc::mmap(without_provenance_mut(at), bytes, protection, flags, -1, 0) };
    if found == libc::MAP_FAILED { 0 } else { found.expose_provenance() }
}

impl Reserve {
    fn pages(&self, layout: Layout) -> usize {
        layout.size().next_multiple_of(self.page)
    }

    fn alloc(&self, layout: Layout, side: Side) -> *mut u8 {
        let bytes = self.pages(layout);
        // A page that stays shut on either side.
        let at = self.used.fetch_add(bytes + self.page, Ordering::Relaxed) + self.page;
        if layout.align() > self.page || at + bytes + self.page > RESERVE {
            return null_mut();
        }
        // SAFETY: pages of the reserve, which nobody was given before.
        let first = unsafe {
            let open = libc::PROT_READ | libc::PROT_WRITE;
            map(self.first + at, bytes, open, libc::MAP_FIXED)
        };
        if first == 0 {
            return null_mut();
        }
        let shift =
            if side == Side::End { (bytes - layout.size()) & !(layout.align() - 1) } else { 0 };
        std::ptr::with_exposed_provenance_mut(first + shift)
    }

    /// Whether a pointer is from here.
    fn holds(&self, at: *mut u8) -> bool {
        (self.first..self.first + RESERVE).contains(&at.addr())
    }
}

// SAFETY: fenced allocations are pages of their own, as large and as aligned as asked for, and all
// others are the system's; which is which, the address tells. Nothing here unwinds or allocates: the
// thread-local is constant and has no destructor.
unsafe impl GlobalAlloc for Fenced {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(side) = SIDE.try_with(Cell::get).ok().flatten() else {
            // SAFETY: handed on to the caller.
            return unsafe { System.alloc(layout) };
        };
        let at = reserve().alloc(layout, side);
        if !at.is_null() {
            // What was never written is NaN, so that it is noticed in a sum.
            // SAFETY: as many bytes were just allocated.
            unsafe { at.write_bytes(0xFF, layout.size()) };
        }
        at
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match SIDE.try_with(Cell::get).ok().flatten() {
            // New pages are zero.
            Some(side) => reserve().alloc(layout, side),
            // SAFETY: handed on to the caller.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let reserve = RESERVED.get().filter(|reserve| reserve.holds(at));
        // SAFETY: what is from here has its pages to itself, by the caller's promise nobody uses them
        // any more, and they stay shut; all else is the system's.
        unsafe {
            match reserve {
                Some(reserve) => {
                    let first = at.addr() & !(reserve.page - 1);
                    map(first, reserve.pages(layout), libc::PROT_NONE, libc::MAP_FIXED);
                }
                None => System.dealloc(at, layout),
            }
        }
    }
}
