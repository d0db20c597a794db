// Lets a build of torch without CUDA make tensors that say they are on CUDA devices: torch's own fake guard.
#include <c10/core/impl/FakeGuardImpl.h>

namespace c10::impl {
template <>
thread_local DeviceIndex FakeGuardImpl<DeviceType::CUDA>::current_device_ = 0;
template <>
thread_local std::array<StreamId, kFakeGuardImplMaxDevices>
    FakeGuardImpl<DeviceType::CUDA>::current_streams_ = {0, 0, 0, 0, 0, 0, 0, 0};
C10_REGISTER_GUARD_IMPL(CUDA, FakeGuardImpl<DeviceType::CUDA>);
}  // namespace c10::impl
