//! Request to WorkloadProfile: ten axes with scores and confidence
