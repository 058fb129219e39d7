// Threads as fibers: who runs, who waits, and what a block shares.
#include "emulation/emulation.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define VISIONOPS_BEFORE_SWITCH(fake_stack, stack, size) __sanitizer_start_switch_fiber(fake_stack, stack, size)
#define VISIONOPS_AFTER_SWITCH(fake_stack, stack, size) __sanitizer_finish_switch_fiber(fake_stack, stack, size)
#else
#define VISIONOPS_BEFORE_SWITCH(fake_stack, stack, size) (void)0
#define VISIONOPS_AFTER_SWITCH(fake_stack, stack, size) (void)0
#endif

namespace visionops::emulation {

Index thread_index, block_index, grid_size;

namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kSharedBytes = 228 << 10;  // what an H100 has
constexpr int kLanes = 32;

enum class State { ready, at_barrier, in_exchange, ended };

// Control jumps between fibers: to swap contexts would ask the kernel for the mask of signals at each of many switches.
struct Fiber {
  jmp_buf place;  // where it goes on
  void* fake_stack = nullptr;
  State state = State::ended;
};

struct Warp {
  Lanes arriving, arrived;
};

// Kept from launch to launch: to map a stack costs more than most kernels.
std::vector<std::unique_ptr<char[]>> stacks;

std::mt19937_64 generator;
int64_t skipped_place = -1;

class Block;
Block* current = nullptr;

class Block {
 public:
  Block(int threads, const std::function<void()>& kernel)
      : fibers_(threads), warps_(threads / kLanes), shared_(kSharedBytes + 64, char(0xa5)), kernel_(kernel) {
    while (stacks.size() < fibers_.size()) stacks.emplace_back(new char[kStackBytes]);
    current = this;
    for (int thread = 0; thread < threads; ++thread) start(thread);
  }

  ~Block() { current = nullptr; }

  void run() {
    std::memset(shared_.data(), 0xa5, used_ + 64);
    variables_.clear();
    used_ = 0;
    draw_order();
    for (Fiber& fiber : fibers_) fiber.state = State::ready;
    while (const int* next = first_ready()) {
      resume(*next);
      release();
    }
    for (const Fiber& fiber : fibers_) {
      if (fiber.state != State::ended) throw std::logic_error("a barrier that some threads of the block do not reach");
    }
  }

  void wait(State state) {
    Fiber& fiber = fibers_[running_];
    fiber.state = state;
    VISIONOPS_BEFORE_SWITCH(&fiber.fake_stack, scheduler_stack_, scheduler_stack_bytes_);
    if (_setjmp(fiber.place) == 0) _longjmp(scheduler_, 1);
    VISIONOPS_AFTER_SWITCH(fiber.fake_stack, nullptr, nullptr);
  }

  const Lanes& exchange(uint64_t value) {
    Warp& warp = warps_[running_ / kLanes];
    warp.arriving.values[running_ % kLanes] = value;
    wait(State::in_exchange);
    return warp.arrived;
  }

  void* shared(size_t bytes, int line) {
    const auto [place, is_new] = variables_.try_emplace(line, used_);
    if (is_new) used_ += (bytes + 63) / 64 * 64;
    if (used_ > kSharedBytes) throw std::length_error("a block shares more memory than a GPU has");
    const auto base = (reinterpret_cast<uintptr_t>(shared_.data()) + 63) / 64 * 64;
    return reinterpret_cast<char*>(base) + place->second;
  }

 private:
  /// Some warps run far ahead of others, and some lanes of others: the first in this order that can run does.
  void draw_order() {
    std::vector<int> warps(warps_.size());
    std::iota(warps.begin(), warps.end(), 0);
    std::shuffle(warps.begin(), warps.end(), generator);
    order_.clear();
    for (const int warp : warps) {
      std::vector<int> lanes(kLanes);
      std::iota(lanes.begin(), lanes.end(), warp * kLanes);
      std::shuffle(lanes.begin(), lanes.end(), generator);
      order_.insert(order_.end(), lanes.begin(), lanes.end());
    }
  }

  const int* first_ready() const {
    for (const int& thread : order_) {
      if (fibers_[thread].state == State::ready) return &thread;
    }
    return nullptr;
  }

  /// What a fiber does: the kernel, each time that it is let go on after its end.
  static void enter() {
    Block& block = *current;
    VISIONOPS_AFTER_SWITCH(nullptr, &block.scheduler_stack_, &block.scheduler_stack_bytes_);
    for (;;) {
      block.wait(State::ended);
      block.kernel_();
    }
  }

  /// Lets a fiber enter, on its own stack, and wait.
  void start(int thread) {
    ucontext_t first;
    getcontext(&first);
    first.uc_stack.ss_sp = stacks[thread].get();
    first.uc_stack.ss_size = kStackBytes;
    first.uc_link = nullptr;
    makecontext(&first, &Block::enter, 0);
    leave_for(thread, [&] { setcontext(&first); });
  }

  void resume(int thread) {
    thread_index.x = static_cast<unsigned>(thread);
    leave_for(thread, [&] { _longjmp(fibers_[thread].place, 1); });
  }

  /// `go` ends in the fiber of the thread, which comes back when it waits.
  template <class Go>
  void leave_for(int thread, Go&& go) {
    running_ = thread;
    void* fake_stack = nullptr;
    (void)fake_stack;
    VISIONOPS_BEFORE_SWITCH(&fake_stack, stacks[thread].get(), kStackBytes);
    if (_setjmp(scheduler_) == 0) go();
    VISIONOPS_AFTER_SWITCH(fake_stack, nullptr, nullptr);
  }

  /// Lets go on whoever waits only for threads that are there or have ended.
  void release() {
    const auto waits = [](const Fiber& fiber, State state) {
      return fiber.state == state || fiber.state == State::ended;
    };
    const auto let_go = [](Fiber* begin, Fiber* end, State state) {
      for (Fiber* fiber = begin; fiber != end; ++fiber) {
        if (fiber->state == state) fiber->state = State::ready;
      }
    };
    Fiber* const all = fibers_.data();
    const int first = running_ / kLanes * kLanes;
    if (std::all_of(all + first, all + first + kLanes, [&](const Fiber& f) { return waits(f, State::in_exchange); })) {
      Warp& warp = warps_[first / kLanes];
      warp.arrived = warp.arriving;
      warp.arrived.present = 0;
      for (int i = 0; i < kLanes; ++i) warp.arrived.present |= uint32_t{all[first + i].state != State::ended} << i;
      let_go(all + first, all + first + kLanes, State::in_exchange);
    }
    if (std::all_of(fibers_.begin(), fibers_.end(), [&](const Fiber& f) { return waits(f, State::at_barrier); })) {
      let_go(all, all + fibers_.size(), State::at_barrier);
    }
  }

  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<char> shared_;
  std::unordered_map<int, size_t> variables_;
  size_t used_ = 0;
  std::vector<int> order_;
  const std::function<void()>& kernel_;
  int running_ = 0;
  jmp_buf scheduler_;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
};

}  // namespace

void run(int64_t blocks, int threads, const std::function<void()>& kernel) {
  if (threads % kLanes != 0) throw std::invalid_argument("threads: expected whole warps");
  std::vector<int64_t> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), generator);
  grid_size.x = static_cast<unsigned>(blocks);
  Block block(threads, kernel);
  for (const int64_t index : order) {
    block_index.x = static_cast<unsigned>(index);
    block.run();
  }
}

void* shared(size_t bytes, int line) { return current->shared(bytes, line); }

void wait_for_block(int64_t place) {
  if (place != skipped_place) current->wait(State::at_barrier);
}

const Lanes& exchange(uint64_t value) { return current->exchange(value); }

void set_seed(uint64_t seed) { generator.seed(seed); }

void skip_barrier(int64_t place) { skipped_place = place; }

}  // namespace visionops::emulation
