"""Which training methods there are."""

from models.nets.multimodal import MultimodalNet
from trainer.methods.aux import Aux, AuxConfig
from trainer.methods.gcmt import Gcmt, GcmtConfig
from trainer.methods.independent import Independent, IndependentConfig
from trainer.methods.joint import Joint, JointConfig
from trainer.methods.method import Method
from trainer.methods.mla import Mla, MlaConfig
from trainer.methods.mmpareto import MmPareto, MmParetoConfig
from trainer.methods.ogm_ge import OgmGe, OgmGeConfig
from trainer.methods.pmr import Pmr, PmrConfig
from trainer.methods.reconboost import ReconBoost, ReconBoostConfig

MethodConfig = (
    JointConfig
    | IndependentConfig
    | AuxConfig
    | OgmGeConfig
    | MmParetoConfig
    | MlaConfig
    | PmrConfig
    | ReconBoostConfig
    | GcmtConfig
)


def build_method(config: MethodConfig, network: MultimodalNet, epochs: int) -> Method:
    """Return the method that a configuration names, for a budget of epochs."""
    match config:
        case JointConfig():
            return Joint(network, epochs)
        case IndependentConfig():
            return Independent(network, epochs)
        case AuxConfig():
            return Aux(network, epochs, config)
        case OgmGeConfig():
            return OgmGe(network, epochs, config)
        case MmParetoConfig():
            return MmPareto(network, epochs, config)
        case MlaConfig():
            return Mla(network, epochs, config)
        case PmrConfig():
            return Pmr(network, epochs, config)
        case ReconBoostConfig():
            return ReconBoost(network, epochs, config)
        case GcmtConfig():
            return Gcmt(network, epochs, config)
