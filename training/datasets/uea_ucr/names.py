"""The names of the archives' sets, as far as they are known here, and published figures on some of them."""

import difflib
import re

from training.datasets.base import Reference

KNOWN = tuple(
    """
    ACSF1 Adiac AllGestureWiimoteX AllGestureWiimoteY AllGestureWiimoteZ ArrowHead ArticularyWordRecognition
    AsphaltObstacles AsphaltObstaclesCoordinates AsphaltPavementTypeCoordinates AsphaltRegularityCoordinates
    AtrialFibrillation BasicMotions Beef BeetleFly BirdChicken BME Car CBF CharacterTrajectories Chinatown
    ChlorineConcentration CinCECGTorso Coffee Computers Cricket CricketX CricketY CricketZ Crop DiatomSizeReduction
    DistalPhalanxOutlineAgeGroup DistalPhalanxOutlineCorrect DistalPhalanxTW DodgerLoopDay DodgerLoopGame
    DodgerLoopWeekend DuckDuckGeese Earthquakes ECG200 ECG5000 ECGFiveDays EigenWorms ElectricDevices
    EOGHorizontalSignal EOGVerticalSignal Epilepsy ERing EthanolConcentration EthanolLevel FaceAll FaceDetection
    FaceFour FacesUCR FiftyWords FingerMovements Fish FordA FordB FreezerRegularTrain FreezerSmallTrain Fungi
    GestureMidAirD1 GestureMidAirD2 GestureMidAirD3 GesturePebbleZ1 GesturePebbleZ2 GunPoint GunPointAgeSpan
    GunPointMaleVersusFemale GunPointOldVersusYoung Ham HandMovementDirection HandOutlines Handwriting Haptics
    Heartbeat Herring HouseTwenty InlineSkate InsectEPGRegularTrain InsectEPGSmallTrain InsectWingbeat
    InsectWingbeatSound ItalyPowerDemand JapaneseVowels LargeKitchenAppliances Libras Lightning2 Lightning7 LSST
    Mallat Meat MedicalImages MelbournePedestrian MiddlePhalanxOutlineAgeGroup MiddlePhalanxOutlineCorrect
    MiddlePhalanxTW MixedShapesRegularTrain MixedShapesSmallTrain MoteStrain MotorImagery NATOPS
    NonInvasiveFetalECGThorax1 NonInvasiveFetalECGThorax2 OliveOil OSULeaf PEMS-SF PenDigits PhalangesOutlinesCorrect
    Phoneme PhonemeSpectra PickupGestureWiimoteZ PigAirwayPressure PigArtPressure PigCVP PLAID Plane PowerCons
    ProximalPhalanxOutlineAgeGroup ProximalPhalanxOutlineCorrect ProximalPhalanxTW RacketSports RefrigerationDevices
    Rock ScreenType SelfRegulationSCP1 SelfRegulationSCP2 SemgHandGenderCh2 SemgHandMovementCh2 SemgHandSubjectCh2
    ShakeGestureWiimoteZ ShapeletSim ShapesAll SmallKitchenAppliances SmoothSubspace SonyAIBORobotSurface1
    SonyAIBORobotSurface2 SpokenArabicDigits StandWalkJump StarLightCurves Strawberry SwedishLeaf Symbols
    SyntheticControl ToeSegmentation1 ToeSegmentation2 Trace TwoLeadECG TwoPatterns UMD UWaveGestureLibrary
    UWaveGestureLibraryAll UWaveGestureLibraryX UWaveGestureLibraryY UWaveGestureLibraryZ Wafer Wine WordSynonyms
    Worms WormsTwoClass Yoga
    """.split()  # noqa: SIM905 - a hundred quotes would say no more
)
"""The 128 sets of the UCR archive (2018), the 30 of the UEA archive (2018) and four added since. There are more."""

_LSTM_FCN = {
    "ArrowHead": (0.897, 0.823),
    "ECG200": (0.87, 0.90),
    "ECG5000": (0.9433, 0.9396),
    "ElectricDevices": (0.747, 0.733),
    "FordA": (0.932, 0.910),
    "GunPoint": (1.0, 1.0),
    "ItalyPowerDemand": (0.9621, 0.9592),
}


class UnknownSet(ValueError):
    """A name that no set of the archives can have."""

    exit_code = 2


def checked(name: str) -> str:
    """The name itself, where a set may be called so.

    Names that are not in `KNOWN` pass: the archives grow.

    Raises:
        UnknownSet: It has other characters than letters, digits, "_" and "-", or is a known name in other case.

    Example:
    >>> checked("ECG5000")
    'ECG5000'
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UnknownSet(
            f"unknown dataset 'uea_ucr/{name}'; expected a name of letters, digits, _ and -, as the archives write it: "
            "https://timeseriesclassification.com lists them"
        )
    for known in KNOWN:
        if known != name and known.casefold() == name.casefold():
            raise UnknownSet(f"unknown dataset 'uea_ucr/{name}'; did you mean 'uea_ucr/{known}'? Case matters")
    return name


def hint(name: str) -> str:
    """What to add to the message that says that a set's file is missing.

    Example:
    >>> hint("ECG500")
    '; the name is not one of those known here: did you mean ECG5000 or ECG200?'
    >>> hint("ECG5000")
    ''
    """
    if name in KNOWN:
        return ""
    near = " or ".join(difflib.get_close_matches(name, KNOWN, n=2, cutoff=0.7))
    return "; the name is not one of those known here" + (f": did you mean {near}?" if near else "")


def references(name: str) -> tuple[Reference, ...]:
    """Published figures on that set and its official split."""
    source = "titu1994/LSTM-FCN Results/train_loss_old_datasets.csv (F. Karim et al. 2018); chosen by training loss"
    models = ("LSTM-FCN", "ALSTM-FCN")
    return tuple(
        Reference(f"test accuracy, {model}", value, source)
        for model, value in zip(models, _LSTM_FCN.get(name, ()), strict=False)
    )
