// Written by fit_coefficients.py; included by simd.h alone.
template <>
struct Exponential<float> {
  static constexpr float kLimit = 87.0000000f;
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2High = 0.693115234f;
  static constexpr float kLn2Low = 3.19461849e-5f;
  static constexpr float kShift = 12582912.0f;
  static constexpr int32_t kShiftBits = 0x4b400000;
  static constexpr int32_t kBias = 127;
  static constexpr int kMantissa = 23;
  static constexpr int kTerms = 5;
  static constexpr float kQ[kTerms] = {0.500000000f, 0.166665770f, 0.0416665546f, 0.00836317905f, 0.00139261836f};
  static constexpr int kErfcTerms = 13;
  static constexpr float kErfc[kErfcTerms] = {
      1.23751263f,   -0.140240659f,   0.00358543826f, 0.0822784334f,   -0.108804568f,    0.0922906951f, -0.0586882379f,
      0.0284094217f, -0.00976471986f, 0.00167574394f, 0.000325416478f, -0.000224055924f, 2.36248437e-5f};
};

template <>
struct Exponential<double> {
  static constexpr double kLimit = 708.00000000000000;
  static constexpr double kLog2E = 1.4426950408889634;
  static constexpr double kLn2High = 0.69314718055920821;
  static constexpr double kLn2Low = 7.3710025651677989e-13;
  static constexpr double kShift = 6755399441055744.0;
  static constexpr int64_t kShiftBits = 0x4338000000000000;
  static constexpr int64_t kBias = 1023;
  static constexpr int kMantissa = 52;
  static constexpr int kTerms = 10;
  static constexpr double kQ[kTerms] = {0.50000000000000010,   0.16666666666666667,   0.041666666666624128,
                                        0.0083333333333300618, 0.0013888888917213717, 0.00019841269863053617,
                                        2.4801521295954375e-5, 2.7557268459997065e-6, 2.7620088445409748e-7,
                                        2.5100385495510319e-8};
  static constexpr int kErfcTerms = 26;
  static constexpr double kErfc[kErfcTerms] = {
      1.2375126308378276,     -0.14024059858554702,   0.0035854154854644576,  0.082276738490151077,
      -0.10880393014175019,   0.092304321160196669,   -0.058693398589612035,  0.028362277421539625,
      -0.0097465795582662040, 0.0017556258322282018,  0.00029371366693076432, -0.00029015397832826706,
      5.1649094090644773e-5,  2.2383908921248836e-5,  -1.1444134901109094e-5, -9.7284280891539542e-7,
      1.7516197905397396e-6,  -5.8272772006277521e-8, -2.5864992170439154e-7, 2.4299539800533459e-8,
      3.8663065623706123e-8,  -4.3954182408512733e-9, -5.1693369414902093e-9, 5.4794050093346226e-10,
      4.2437486562035537e-10, -3.7886387914681388e-11};
};
