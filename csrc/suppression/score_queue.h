// Boxes in the order of scores that only fall: those that come sorted, and those that came back lower.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/box.h"
#include "common/sort.h"

namespace visionops::VISIONOPS_ISA {

/// A score that a box had and the box's index as one number: the least is the best, ties by lower index.
template <class S>
using Entry = std::conditional_t<sizeof(S) == 8, unsigned __int128, uint64_t>;

template <class S>
Entry<S> entry_of(S score, int32_t index) {
  return static_cast<Entry<S>>(descending_key(score)) << 32 | static_cast<uint32_t>(index);
}

/// Entries that come sorted, and then come back larger: the least first. What comes back stands in a heap, each above
/// four others, in the places of those that are gone.
template <class E>
class Queue {
 public:
  Queue(E* sorted, int64_t size) : entries_(sorted), size_(size) {}

  bool empty() const { return next_ == size_ && heap_ == 0; }

  E take_least() {
    if (heap_ == 0 || (next_ < size_ && entries_[next_] < entries_[0])) return entries_[next_++];
    const E least = entries_[0];
    sink(entries_[--heap_]);
    return least;
  }

  void put_back(E entry) {
    int64_t hole = heap_++;
    for (; hole > 0 && entry < entries_[(hole - 1) / 4]; hole = (hole - 1) / 4) {
      entries_[hole] = entries_[(hole - 1) / 4];
    }
    entries_[hole] = entry;
  }

 private:
  /// Puts an entry in the place of the top, then where it belongs.
  void sink(const E entry) {
    int64_t hole = 0;
    for (int64_t child = 1; child < heap_; child = 4 * hole + 1) {
      const int64_t end = smaller(child + 4, heap_);
      for (int64_t other = child + 1; other < end; ++other) child = entries_[other] < entries_[child] ? other : child;
      if (entry < entries_[child]) break;
      entries_[hole] = entries_[child];
      hole = child;
    }
    entries_[hole] = entry;
  }

  E* entries_;
  int64_t size_, next_ = 0, heap_ = 0;
};

}  // namespace visionops::VISIONOPS_ISA
