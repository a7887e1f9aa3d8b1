"""Which data sets there are."""

from models.spec import ModalitySpec
from trainer.data.combinations import Combinations, PairProduct9Data, PairXor3Data
from trainer.data.examples import DataSet
from trainer.data.houston2013 import Houston2013, Houston2013Data
from trainer.data.pairs import PairedSites, UavPair7Data
from trainer.data.recordings import Recordings, RecordingsData
from trainer.data.skydet import SkyDet, SkyDetData
from trainer.data.synthetic import Synthetic, SyntheticData

DataConfig = (
    UavPair7Data | SyntheticData | PairProduct9Data | PairXor3Data | Houston2013Data | SkyDetData | RecordingsData
)


def open_data_set(config: DataConfig, modalities: tuple[ModalitySpec, ...]) -> DataSet:
    """Return the data set that a configuration names.

    Raises:
        InputError: its files are missing or damaged.
        RecordingError: a recording is missing or damaged.
        ConfigError: it does not deliver these modalities.
    """
    if isinstance(config, UavPair7Data):
        return PairedSites(config, modalities)
    if isinstance(config, PairProduct9Data | PairXor3Data):
        return Combinations(config, modalities)
    if isinstance(config, Houston2013Data):
        return Houston2013(config, modalities)
    if isinstance(config, SkyDetData):
        return SkyDet(config, modalities)
    if isinstance(config, RecordingsData):
        return Recordings(config, modalities)
    return Synthetic(config, modalities)
